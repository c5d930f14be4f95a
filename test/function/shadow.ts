/** Memory that is somewhere else: the function works on a copy, and a watch carries bytes to and fro. */
import type { SdxiFunction } from '../../src/function/function.js';
import { Access, type Mapping, type MappingWatch } from '../../src/memory/address-space.js';
import { Window } from '../../src/memory/window.js';

/** A structure that may change in place before the step is over. */
interface Armed {
  readonly shadow: Uint8Array;
  readonly start: number;
  readonly before: Uint8Array;
}

const same = (a: Uint8Array, b: Uint8Array, from: number, at: number): boolean =>
  Buffer.compare(a.subarray(from, from + 4), b.subarray(at, at + 4)) === 0;

/**
 * Fetches what is asked for, and writes back what has changed as late as the contract of {@link MappingWatch} allows: at the end of the
 * step, or when bytes of the same structure are fetched anew. The ranges that were asked for first go first, and there the highest
 * dword; who asks again is last.
 */
export class ShadowWatch implements MappingWatch {
  private readonly remotes = new Map<Uint8Array, Uint8Array>();
  private readonly copies = new Map<Window, Window>();
  private armed: Armed[] = [];
  /** What cannot be had just now. */
  refuses: (kind: 'access' | 'read' | 'wrote', address: number, length: number) => boolean = () => false;
  /** Messages that went to and fro. */
  fetched = 0;
  sent = 0;
  /** Called with the index in the remote memory before each dword that is written back. */
  onSend: (at: number) => void = () => {};

  /** The copy that the function works on, as another window of the same size. Its bytes are wrong until they are fetched. */
  of(remote: Window): Window {
    let copy = this.copies.get(remote);
    if (copy === undefined) {
      copy = new Window(new ArrayBuffer(remote.byteLength));
      copy.u8.fill(0xa5);
      this.copies.set(remote, copy);
      this.remotes.set(copy.u8, remote.u8);
    }
    return copy;
  }

  /** Each step of a function ends with what changed in it being written back. */
  follow(fn: SdxiFunction): void {
    for (const method of ['step', 'freeze', 'thaw', 'injectInternalError', 'setFaults'] as const) {
      const original = (fn[method] as (argument: unknown) => unknown).bind(fn);
      Object.assign(fn, {
        [method]: (argument: unknown) => {
          const result = original(argument);
          this.endStep();
          return result;
        },
      });
    }
  }

  access({ u8, shift }: Mapping, address: number, length: number, access: number): boolean {
    if (this.refuses('access', address, length)) return false;
    const start = (address + shift) & ~3;
    const end = Math.ceil((address + shift + length) / 4) * 4;
    this.fetch(u8, start, end);
    if ((access & Access.WRITE) !== 0) {
      this.armed = this.armed.filter((old) => old.shadow !== u8 || old.start !== start || old.before.length !== end - start);
      this.armed.push({ shadow: u8, start, before: u8.slice(start, end) });
    }
    return true;
  }

  read({ u8, shift }: Mapping, address: number, length: number): boolean {
    if (this.refuses('read', address, length)) return false;
    this.fetch(u8, address + shift, address + shift + length);
    return true;
  }

  wrote({ u8, shift }: Mapping, address: number, length: number): boolean {
    if (this.refuses('wrote', address, length)) return false;
    const start = address + shift;
    if (this.overlaps(u8, start, start + length)) this.flush();
    this.sent++;
    this.remoteOf(u8).set(u8.subarray(start, start + length), start);
    for (const one of this.armed) if (one.shadow === u8) this.settle(one, start, start + length);
    return true;
  }

  /** What has changed goes where it belongs; it may change again. */
  flush(): void {
    for (const { shadow, start, before } of this.armed) {
      const remote = this.remoteOf(shadow);
      for (let at = before.length - 4; at >= 0; at -= 4) {
        if (same(shadow, before, start + at, at)) continue;
        this.onSend(start + at);
        this.sent++;
        remote.set(shadow.subarray(start + at, start + at + 4), start + at);
        for (const one of this.armed) if (one.shadow === shadow) this.settle(one, start + at, start + at + 4);
      }
    }
  }

  /** Nothing may be touched any more without a new question: the copy is worth nothing now. */
  endStep(): void {
    this.flush();
    for (const { shadow, start, before } of this.armed) shadow.fill(0xa5, start, start + before.length);
    this.armed = [];
  }

  /** These bytes of a structure are the same on both sides now. */
  private settle({ shadow, start, before }: Armed, from: number, to: number): void {
    const [first, end] = [Math.max(from, start), Math.min(to, start + before.length)];
    if (first < end) before.set(shadow.subarray(first, end), first - start);
  }

  private fetch(shadow: Uint8Array, start: number, end: number): void {
    if (this.overlaps(shadow, start, end)) this.flush();
    this.fetched++;
    shadow.set(this.remoteOf(shadow).subarray(start, end), start);
  }

  private overlaps(shadow: Uint8Array, start: number, end: number): boolean {
    return this.armed.some((one) => one.shadow === shadow && one.start < end && start < one.start + one.before.length);
  }

  private remoteOf(shadow: Uint8Array): Uint8Array {
    const remote = this.remotes.get(shadow);
    if (remote === undefined) throw new Error('a watch is asked about a mapping that is not its own');
    return remote;
  }
}

/** A watch in force for every rig that is made meanwhile. */
export const everyRig: { shadowed: boolean } = { shadowed: false };

/** Notes which pages have changed, as a hypervisor wants to know during a migration. */
export class PageLog implements MappingWatch {
  readonly pages = new Set<number>();

  private note(address: number, length: number): void {
    for (let page = Math.floor(address / 4096); page * 4096 < address + length; page++) this.pages.add(page * 4096);
  }

  access(_mapping: Mapping, address: number, length: number, access: number): boolean {
    if ((access & Access.WRITE) !== 0) this.note(address, length);
    return true;
  }

  read(): boolean {
    return true;
  }

  wrote(_mapping: Mapping, address: number, length: number): boolean {
    this.note(address, length);
    return true;
  }
}

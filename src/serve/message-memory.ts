import { SystemError } from '../errors.js';
import { Access, type Mapping, type MappingWatch } from '../memory/address-space.js';
import { WINDOW_MAX, Window } from '../memory/window.js';
import { discardPages, mapPrivate, unmap } from '../native/libc.js';
import { Errno } from '../native/socket.js';
import type { DirtyLog } from './dirty-log.js';
import { Refusal } from './files.js';
import type { Room } from './limits.js';

/** How bytes of the client are reached that no file descriptor came for: DMA_READ and DMA_WRITE. */
export interface DmaPort {
  /** Waits for the bytes. @returns false: they cannot be had */
  read(address: number, into: Uint8Array): boolean;
  /** Sends bytes and waits until they are there. @returns false: they did not arrive */
  write(address: number, bytes: Uint8Array): boolean;
  /** Sends bytes: they are there before whatever is sent to the client from now on. */
  post(address: number, bytes: Uint8Array): void;
  /** Waits until all that was posted is there. */
  settle(): void;
  /** A step of the function is over. */
  endStep(): void;
}

/** Private memory in the place of the client's. */
export interface Shadow {
  readonly part: { readonly address: number; readonly byteLength: number };
  readonly windows: Window[];
}

/** A structure that the function may change in place before the step is over. */
interface Armed {
  readonly mapping: Mapping;
  readonly address: number;
  readonly before: Uint32Array;
}

/** Shadows take real memory where they were touched; it is given back once so much may have been. */
const KEEP_BYTES = 64 << 20;

/**
 * Memory without a file. The function works on a private copy (a shadow), of which each part is fetched before it is read and sent
 * after it was written. Structures are changed in place, so what was asked for is compared with what it was: only dwords that changed
 * are sent, of what was asked for last first, and there the highest address first. In this order the function itself writes them: the
 * completion block before the slot (S-74), er before signal (O-11).
 */
export class MessageMemory implements MappingWatch {
  private readonly port: DmaPort;
  private readonly log: DirtyLog;
  private readonly armed: Armed[] = [];
  private readonly shadows = new Set<Shadow['part']>();
  private readonly room: Room;
  private touched = 0;

  constructor(port: DmaPort, log: DirtyLog, room: Room) {
    this.port = port;
    this.room = room;
    this.log = log;
  }

  /** A shadow for so many bytes. */
  open(byteLength: number): Shadow | Refusal {
    if (!this.room.take(byteLength)) return new Refusal(Errno.ENOMEM, `there is no room in memory for a copy of ${byteLength} bytes`);
    try {
      const address = mapPrivate(byteLength);
      const windows: Window[] = [];
      for (let at = 0; at < byteLength; at += WINDOW_MAX) {
        windows.push(Window.over(address + at, Math.min(WINDOW_MAX, byteLength - at)).window);
      }
      const part = { address, byteLength };
      this.shadows.add(part);
      return { part, windows };
    } catch (error) {
      this.room.give(byteLength);
      if (!(error instanceof SystemError)) throw error;
      return new Refusal(Number(error.fields.errno), `there is no memory for a copy of it: ${error.message}`);
    }
  }

  /** Mappings that there are. */
  get size(): number {
    return this.shadows.size;
  }

  /** No view over it may be used any more. */
  close(part: Shadow['part']): void {
    this.shadows.delete(part);
    unmap(part.address, part.byteLength);
    this.room.give(part.byteLength);
  }

  access(mapping: Mapping, address: number, length: number, access: number): boolean {
    this.flush();
    const start = address - (address % 4);
    const end = Math.ceil((address + length) / 4) * 4;
    if ((mapping.access & Access.READ) !== 0 && !this.fetch(mapping, start, end - start)) return false;
    if ((access & Access.WRITE) === 0) return true;
    const word = mapping.word(start);
    this.armed.push({ mapping, address: start, before: mapping.u32.slice(word, word + (end - start) / 4) });
    return true;
  }

  read(mapping: Mapping, address: number, length: number): boolean {
    this.flush();
    return this.fetch(mapping, address, length);
  }

  wrote(mapping: Mapping, address: number, length: number): boolean {
    this.flush();
    this.touched += length;
    this.log.note(address, length);
    const at = address + mapping.shift;
    const sent = this.port.write(address, mapping.u8.subarray(at, at + length));
    this.settle(mapping, address, length);
    return sent;
  }

  private fetch(mapping: Mapping, address: number, length: number): boolean {
    this.touched += length;
    const at = address + mapping.shift;
    const fetched = this.port.read(address, mapping.u8.subarray(at, at + length));
    this.settle(mapping, address, length);
    return fetched;
  }

  /** Sends what has changed since. */
  flush(): void {
    for (let i = this.armed.length - 1; i >= 0; i--) {
      const { mapping, address, before } = this.armed[i];
      if (mapping.u32.length === 0) continue; // taken back meanwhile
      const word = mapping.word(address);
      const { u32 } = mapping;
      for (let end = before.length; end > 0; end--)
        if (u32[word + end - 1] !== before[end - 1]) this.send(mapping, address + 4 * (end - 1));
    }
  }

  /** A dword that has changed, with the other half of its 8 bytes if that has changed as well. */
  private send(mapping: Mapping, address: number): void {
    let start = address;
    if (address % 8 !== 0 && this.changed(mapping, address - 4)) start -= 4;
    const length = address + 4 - start;
    const offset = start + mapping.shift;
    this.log.note(start, length);
    this.port.post(start, mapping.u8.subarray(offset, offset + length));
    this.settle(mapping, start, length);
  }

  private changed(mapping: Mapping, address: number): boolean {
    const value = mapping.u32[mapping.word(address)];
    return this.armed.some((armed) => {
      const word = (address - armed.address) / 4;
      return armed.mapping === mapping && word >= 0 && word < armed.before.length && armed.before[word] !== value;
    });
  }

  /** These bytes are now the client's, whoever has asked for them. */
  private settle(mapping: Mapping, address: number, length: number): void {
    for (const armed of this.armed) {
      if (armed.mapping !== mapping) continue;
      const from = Math.max(address, armed.address);
      const to = Math.min(address + length, armed.address + 4 * armed.before.length);
      if (from >= to || mapping.u32.length === 0) continue;
      const word = mapping.word(armed.address);
      for (let i = Math.floor((from - armed.address) / 4); armed.address + 4 * i < to; i++) armed.before[i] = mapping.u32[word + i];
    }
  }

  /** All that was written is where the client sees it. */
  deliver(): void {
    if (this.shadows.size === 0) return;
    this.flush();
    this.port.settle();
  }

  /** The function's step is over: what it asked for is asked for anew in the next. */
  endStep(): void {
    if (this.armed.length > 0) {
      this.deliver();
      this.armed.length = 0;
    }
    this.port.endStep();
    if (this.touched < KEEP_BYTES) return;
    this.touched = 0;
    for (const { address, byteLength } of this.shadows) discardPages(address, byteLength);
  }
}

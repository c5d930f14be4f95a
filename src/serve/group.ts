import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import { Board } from '../fabric/board.js';
import { type MemberEnd, ThreadFabric } from '../fabric/thread-fabric.js';
import type { InterruptPort } from '../function/ports.js';
import { Access, type AddressSpace, AddressSpaces, type Mapping, type MappingWatch, NO_PASID } from '../memory/address-space.js';
import { WINDOW_MAX, Window } from '../memory/window.js';
import { signalEventfd } from '../native/eventfd.js';
import type { DirtyLog } from './dirty-log.js';
import type { Held, MemoryObserver } from './guest-memory.js';
import { Life } from './life.js';

/** Interrupt vectors at most, a bit each. */
const VECTOR_WORDS = 2048 / 32;

/** Words of a member in {@link GroupShare.words}. */
const VERSION = 0;
const CALLED = 1;
const VECTORS = 16;
const MEMBER_WORDS = VECTORS + VECTOR_WORDS;

/** What all members share, and what each is told of the others. */
export interface GroupShare {
  readonly board: SharedArrayBuffer;
  /** For each member: a count of its announcements, and the interrupts that others raise at it. */
  readonly words: SharedArrayBuffer;
  readonly index: number;
  readonly others: readonly OtherShare[];
}

export interface OtherShare {
  readonly index: number;
  readonly port: MessagePort;
  readonly vectors: number;
  readonly caches: boolean;
  readonly wakeFd: number;
  /** Its life, as in {@link Life}. */
  readonly life: SharedArrayBuffer;
}

export const groupWords = (members: number): SharedArrayBuffer => new SharedArrayBuffer(members * MEMBER_WORDS * 4);

/** What members tell each other. */
type Announcement =
  | { kind: 'map'; address: number; byteLength: number; access: number; offset: number; file?: { address: number; byteLength: number } }
  | { kind: 'unmap'; address: number; byteLength: number }
  | { kind: 'blocked'; on: boolean }
  | { kind: 'log'; on: boolean }
  | { kind: 'dirty'; ranges: Float64Array };

/** So many announcements may lie in the ports of a member that sleeps. */
const WAKE_EACH = 1024;

/** Ranges that are collected before they are handed over. */
const DIRTY_RANGES = 4096;

/** Writes to another member's memory, for its log of dirty pages. */
class DirtyNotes implements MappingWatch {
  private readonly ranges = new Float64Array(2 * DIRTY_RANGES);
  private count = 0;
  private readonly send: (ranges: Float64Array) => void;

  constructor(send: (ranges: Float64Array) => void) {
    this.send = send;
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

  private note(address: number, length: number): void {
    if (this.count === DIRTY_RANGES) this.flush();
    this.ranges[2 * this.count] = address;
    this.ranges[2 * this.count + 1] = length;
    this.count++;
  }

  flush(): void {
    if (this.count === 0) return;
    this.send(this.ranges.slice(0, 2 * this.count));
    this.count = 0;
  }
}

/** Another served function of the group: its memory, mapped at the same addresses of this process, and its interrupts. */
class Other implements MemberEnd {
  readonly index: number;
  readonly caches: boolean;
  readonly memory = new AddressSpaces();
  readonly interrupts: InterruptPort;
  private readonly share: OtherShare;
  private readonly words: Int32Array;
  private readonly life: Int32Array;
  private readonly space: AddressSpace;
  private readonly windows = new Map<string, { readonly windows: Window[]; users: number }>();
  private readonly keys = new Map<number, string>();
  private readonly notes: DirtyNotes;
  private logging = false;
  private seen = 0;
  private readonly onDirty: (address: number, length: number) => void;
  private readonly log: (line: string) => void;

  constructor(
    share: OtherShare,
    group: { words: Int32Array; announce(): void; dirty(a: number, n: number): void; log(line: string): void },
  ) {
    this.share = share;
    this.index = share.index;
    this.caches = share.caches;
    this.words = group.words;
    this.life = new Int32Array(share.life);
    this.space = this.memory.bind(NO_PASID);
    this.memory.setBlocked(true); // a device begins without bus mastering
    this.interrupts = { vectors: share.vectors, raise: (vector) => this.raise(vector) };
    this.onDirty = group.dirty;
    this.log = group.log;
    this.notes = new DirtyNotes((ranges) => {
      share.port.postMessage({ kind: 'dirty', ranges } satisfies Announcement);
      group.announce();
    });
  }

  tell(announcement: Announcement): void {
    this.share.port.postMessage(announcement);
  }

  wake(): void {
    signalEventfd(this.share.wakeFd);
  }

  private raise(vector: number): void {
    const at = this.index * MEMBER_WORDS;
    Atomics.or(this.words, at + VECTORS + (vector >>> 5), 1 << (vector & 31));
    Atomics.store(this.words, at + CALLED, 1);
    signalEventfd(this.share.wakeFd);
  }

  running(): boolean {
    return Atomics.load(this.life, 0) === Life.RUNNING;
  }

  fail(reason: string): void {
    this.log(`function ${this.index} of the group: ${reason}`);
  }

  beginStep(): void {
    const version = Atomics.load(this.words, this.index * MEMBER_WORDS + VERSION);
    if (version !== this.seen) this.hear(version);
  }

  /** Takes what the member has announced up to now. */
  hear(version = Atomics.load(this.words, this.index * MEMBER_WORDS + VERSION)): void {
    this.seen = version;
    for (;;) {
      const received = receiveMessageOnPort(this.share.port);
      if (received === undefined) return;
      this.apply(received.message as Announcement);
    }
  }

  endStep(): void {
    if (this.logging) this.notes.flush();
  }

  private apply(announcement: Announcement): void {
    switch (announcement.kind) {
      case 'map':
        this.map(announcement);
        break;
      case 'unmap':
        this.unmap(announcement);
        break;
      case 'blocked':
        this.memory.setBlocked(announcement.on);
        break;
      case 'log':
        this.logging = announcement.on;
        for (const mapping of this.space) mapping.watch = announcement.on ? this.notes : undefined;
        break;
      case 'dirty':
        for (let i = 0; i < announcement.ranges.length; i += 2) this.onDirty(announcement.ranges[i], announcement.ranges[i + 1]);
        break;
    }
  }

  /** Memory without a file is within reach of its own member alone, which can ask its client for it. */
  private map({ address, byteLength, access, offset, file }: Extract<Announcement, { kind: 'map' }>): void {
    if (file === undefined) return;
    const windows = this.open(address, file);
    for (let done = 0; done < byteLength; ) {
      const position = offset + done;
      const within = position % WINDOW_MAX;
      const length = Math.min(byteLength - done, WINDOW_MAX - within);
      const watch = this.logging ? this.notes : undefined;
      this.space.map(address + done, length, access as Access, windows[Math.floor(position / WINDOW_MAX)], within, watch);
      done += length;
    }
  }

  private open(address: number, file: { address: number; byteLength: number }): Window[] {
    const key = `${file.address}+${file.byteLength}`;
    let entry = this.windows.get(key);
    if (entry === undefined) {
      entry = { windows: [], users: 0 };
      for (let at = 0; at < file.byteLength; at += WINDOW_MAX) {
        entry.windows.push(Window.over(file.address + at, Math.min(WINDOW_MAX, file.byteLength - at)).window);
      }
      this.windows.set(key, entry);
    }
    entry.users++;
    this.keys.set(address, key);
    return entry.windows;
  }

  private unmap({ address, byteLength }: { address: number; byteLength: number }): void {
    this.space.unmap(address, byteLength);
    const key = this.keys.get(address);
    if (key === undefined) return;
    this.keys.delete(address);
    const entry = this.windows.get(key);
    if (entry !== undefined && --entry.users === 0) this.windows.delete(key);
  }
}

/**
 * Functions of one process that are served to several clients and form a group: what `bus/embedded/fabric` is for embedded ones. All of
 * them map files into the same process, so a member tells the others only where; each makes its own views. An `unmap` returns when no
 * engine can be in a step that has not heard of it (S-102).
 */
export class GroupMember implements MemoryObserver {
  readonly fabric: ThreadFabric;
  private readonly words: Int32Array;
  private readonly index: number;
  private readonly others: Other[];
  private dirtyLog: DirtyLog | undefined;
  private told = 0;

  constructor({ board, words, index, others }: GroupShare, log: (line: string) => void) {
    this.words = new Int32Array(words);
    this.index = index;
    this.fabric = new ThreadFabric(new Board(board), index);
    const group = {
      words: this.words,
      announce: () => this.announce(),
      dirty: (address: number, length: number) => this.dirtyLog?.note(address, length),
      log,
    };
    this.others = others.map((share) => new Other(share, group));
    for (const other of this.others) this.fabric.meet(other);
  }

  /** Everybody hears at the beginning of the next step at the latest. */
  private announce(): void {
    Atomics.add(this.words, this.index * MEMBER_WORDS + VERSION, 1);
  }

  private tell(announcement: Announcement): void {
    for (const other of this.others) other.tell(announcement);
    this.announce();
    if (++this.told % WAKE_EACH === 0) for (const other of this.others) other.wake();
  }

  mapped({ address, byteLength, access, offset, file }: Held): void {
    this.tell({ kind: 'map', address, byteLength, access, offset, file: file && { address: file.address, byteLength: file.byteLength } });
  }

  unmapped({ address, byteLength }: Held): void {
    this.tell({ kind: 'unmap', address, byteLength });
    this.fabric.quiesce();
  }

  /** Bus mastering is off, so nobody reaches this member's memory (S-47). */
  blocked(on: boolean): void {
    this.tell({ kind: 'blocked', on });
    if (on) this.fabric.quiesce();
  }

  /** Others note down what they write here, too; `undefined` ends it. */
  logTo(log: DirtyLog | undefined): void {
    this.dirtyLog = log;
    this.tell({ kind: 'log', on: log !== undefined });
  }

  /** All that others have written by now is in the log. */
  collect(): void {
    this.fabric.quiesce();
    for (const other of this.others) other.hear();
  }

  /** Hands out the interrupts that others have raised here. */
  interrupts(raise: (vector: number) => void): void {
    const at = this.index * MEMBER_WORDS;
    if (Atomics.load(this.words, at + CALLED) === 0) return;
    Atomics.store(this.words, at + CALLED, 0);
    for (let word = 0; word < VECTOR_WORDS; word++) {
      for (let bits = Atomics.exchange(this.words, at + VECTORS + word, 0); bits !== 0; bits &= bits - 1) {
        raise(word * 32 + 31 - Math.clz32(bits & -bits));
      }
    }
  }
}

import { fstatSync } from 'node:fs';
import * as workerThreads from 'node:worker_threads';
import { ArgumentError, SdxiError, SystemError } from '../errors.js';
import { addressOf, closeFd, createMemfd, mapShared, unmap, viewMemory } from '../native/libc.js';
import { WINDOW_MAX, Window } from './window.js';

/** Memory is handed out and mapped in pages of this size. */
export const PAGE_BYTES = 4096;
/** A huge page. */
export const HUGE_PAGE_BYTES = 2 * 2 ** 20;

/**
 * Memory of this process that functions may be given: where it is, and what keeps it alive. Two kinds: memory that this
 * package allocated (a memfd, so that another process can map it too), and memory of the user's that was pinned.
 */
export interface Region {
  /** Process address of the first byte. */
  readonly address: number;
  readonly byteLength: number;
  /** The bytes, as an ordinary view. Holding it keeps the memory alive. */
  readonly bytes: Uint8Array;
  /** A window over the region and the offset of its first byte there; for views of dwords. */
  readonly window: Window;
  readonly offset: number;
  /** File that holds the bytes, with the offset of the first one; absent for pinned memory, which has none. */
  readonly file?: { readonly fd: number; readonly offset: number };
  /** Closes the file, when nobody will map it any more; the bytes stay. Idempotent. */
  closeFile?(): void;
  /** False once the memory has been taken away (transferred, or the WebAssembly memory grew). */
  readonly attached: boolean;
}

/**
 * Allocated memory is unmapped when the last view of it is gone, never before: a program that keeps a buffer after
 * closing everything reads stale bytes, it does not crash.
 */
const graveyard = new FinalizationRegistry<Remains>((remains) => {
  unmap(remains.address, remains.length);
  close(remains);
});

/** What the garbage collector leaves to be given back. */
interface Remains {
  readonly address: number;
  readonly length: number;
  /** -1 once it is closed. */
  fd: number;
}

function close(remains: Remains): void {
  const { fd } = remains;
  remains.fd = -1;
  if (fd >= 0) closeFd(fd);
}

class MappedRegion implements Region {
  readonly address: number;
  readonly byteLength: number;
  readonly bytes: Uint8Array;
  readonly window: Window;
  readonly offset = 0;
  private readonly remains: Remains;
  private readonly fileOffset: number;

  /** The file is the region's from here on. */
  constructor(fd: number, offset: number, length: number) {
    this.fileOffset = offset;
    try {
      this.address = mapShared(fd, offset, length);
    } catch (error) {
      closeFd(fd);
      throw error;
    }
    this.byteLength = length;
    this.remains = { address: this.address, length, fd };
    const buffer = viewMemory(this.address, length);
    keepInPlace(buffer);
    refuseTransfer(buffer);
    this.window = new Window(buffer);
    this.bytes = this.window.u8;
    graveyard.register(buffer, this.remains);
  }

  get file(): { fd: number; offset: number } | undefined {
    const { fd } = this.remains;
    return fd < 0 ? undefined : { fd, offset: this.fileOffset };
  }

  /** Descriptors are scarce (ulimit -n), so they do not wait for the garbage collector as the bytes do. */
  closeFile(): void {
    close(this.remains);
  }

  get attached(): boolean {
    return true;
  }
}

/** Node 21 and later. */
const isMarked = (workerThreads as { isMarkedAsUntransferable?: (buffer: object) => boolean }).isMarkedAsUntransferable;

/**
 * Marks a buffer as untransferable, unless it cannot be transferred anyway. Marking such a buffer once more is not harmless: from
 * Node 24 on it gives the buffer a key without which V8 cannot detach it, and V8 itself detaches external buffers at exit and
 * WebAssembly memory when it grows: the process aborts.
 */
function keepInPlace(buffer: ArrayBufferLike): void {
  if (buffer instanceof SharedArrayBuffer || isMarked?.(buffer) || isWebAssemblyMemory(buffer)) return;
  workerThreads.markAsUntransferable(buffer);
}

const WASM_PAGE_BYTES = 65_536;

/** JavaScript cannot tell whose buffer it is; WebAssembly memory always starts and ends on a 64 KiB page, malloc's never start on one. */
function isWebAssemblyMemory(buffer: ArrayBufferLike): boolean {
  return buffer.byteLength % WASM_PAGE_BYTES === 0 && addressOf(new Uint8Array(buffer)) % WASM_PAGE_BYTES === 0;
}

/** `ArrayBuffer.prototype.transfer` (Node 22) ignores the mark that `postMessage` honours, so allocated buffers answer for themselves. */
function refuseTransfer(buffer: ArrayBuffer): void {
  const refuse = (): never => {
    throw new SdxiError('ERR_SDXI_UNSUPPORTED', 'DMA memory cannot be transferred', {
      hint: 'copy the bytes out (Buffer.from(view)), or send the address and length to another thread',
    });
  };
  for (const name of ['transfer', 'transferToFixedLength']) Object.defineProperty(buffer, name, { value: refuse });
}

/**
 * Zeroed memory for DMA, rounded up to whole pages.
 * @param byteLength 1 … 2 GiB (a view can hold no more on every supported Node)
 * @param options.hugePages pages of 2 MiB, of which the system must have some set aside (vm.nr_hugepages)
 * @throws ArgumentError for another length; SystemError when there is no memory
 */
export function allocateRegion(byteLength: number, name = 'sdxi-dma', { hugePages = false } = {}): Region {
  if (!Number.isSafeInteger(byteLength) || byteLength < 1 || byteLength > WINDOW_MAX) {
    throw new ArgumentError(`cannot allocate ${byteLength} bytes`, {
      hint: `one buffer holds 1 … ${WINDOW_MAX} bytes; allocate several`,
      fields: { byteLength },
    });
  }
  const page = hugePages ? HUGE_PAGE_BYTES : PAGE_BYTES;
  const length = Math.ceil(byteLength / page) * page;
  const fd = createMemfd(name, length, { hugePages });
  try {
    return new MappedRegion(fd, 0, length);
  } catch (error) {
    if (!hugePages || !(error instanceof SystemError)) throw error;
    throw new SystemError('mmap of huge pages', error.fields.errno as number, {
      hint: `set some aside first: sysctl vm.nr_hugepages=${length / HUGE_PAGE_BYTES} (or more, for all that is allocated)`,
      fields: { byteLength: length },
    });
  }
}

/** A part of a file. */
export interface FilePart {
  /** Bytes from the start of the file, a multiple of 4096; default 0. */
  offset?: number;
  /** A multiple of 4096, at most 2 GiB; default all that follows. */
  byteLength?: number;
}

/**
 * DMA memory that lies in a file, so that another process may have it too: a memfd that was inherited, or a file of a file system.
 * Two regions over the same bytes are the same memory, in one process or in several.
 * @param fd open for reading and writing; the region's from here on, which closes it (also when this fails)
 * @throws ArgumentError when the file has no such part; SystemError
 */
export function openRegion(fd: number, { offset = 0, byteLength }: FilePart = {}): Region {
  if (!Number.isInteger(fd) || fd < 0) {
    throw new ArgumentError(`${String(fd)} is no file descriptor`, { hint: 'pass what fs.openSync returned, or an inherited descriptor' });
  }
  try {
    const { size } = fstatSync(fd);
    const length = byteLength ?? size - offset;
    const whole = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset % PAGE_BYTES === 0 && length % PAGE_BYTES === 0;
    // Memory behind the end of its file is a SIGBUS.
    if (!whole || offset < 0 || length < PAGE_BYTES || length > WINDOW_MAX || offset + length > size) {
      throw new ArgumentError(`bytes ${String(offset)} … ${String(offset + length)} of the file cannot be mapped`, {
        hint: `whole pages of ${PAGE_BYTES} bytes inside the file, which has ${size}; make it longer with fs.ftruncateSync`,
        fields: { fd, offset, byteLength, size },
      });
    }
    return new MappedRegion(fd, offset, length);
  } catch (error) {
    if (error instanceof ArgumentError) closeFd(fd);
    throw error;
  }
}

class PinnedRegion implements Region {
  readonly address: number;
  readonly byteLength: number;
  readonly bytes: Uint8Array;
  readonly window: Window;
  readonly offset: number;

  constructor(view: Uint8Array) {
    this.address = addressOf(view);
    this.byteLength = view.byteLength;
    this.bytes = view;
    const { window, offset } = Window.of(view);
    this.window = window;
    this.offset = offset;
  }

  get attached(): boolean {
    return this.bytes.byteLength === this.byteLength;
  }
}

/** What {@link pinRegion} takes. */
export type PinnableMemory = ArrayBufferView | ArrayBufferLike | WebAssembly.Memory;

/**
 * Makes ordinary memory of the user's usable for DMA where it lies (shared virtual addressing): no copy, the region holds
 * the reference that keeps it alive. The ArrayBuffer is marked untransferable, which cannot be undone.
 *
 * Not covered: `ArrayBuffer.prototype.transfer()` (Node 22 and later) on a pinned buffer while work on it is in flight.
 * @throws ArgumentError for empty, detached, resizable or growable memory, or more than 2 GiB
 */
export function pinRegion(memory: PinnableMemory): Region {
  const buffer = bufferOf(memory) as ArrayBuffer & { resizable?: boolean; growable?: boolean };
  if (buffer.resizable || buffer.growable) {
    throw new ArgumentError('resizable memory cannot be registered: it may move or shrink under the function', {
      hint: 'use a fixed-length buffer, or alloc()',
    });
  }
  // No view can be made of a detached buffer, so it is told by its length.
  const view = buffer.byteLength === 0 ? undefined : viewOf(memory, buffer);
  if (view === undefined || view.byteLength === 0) {
    throw new ArgumentError('empty or detached memory cannot be registered', {
      hint: 'a buffer that was transferred (postMessage, structuredClone, transfer) has no bytes any more; register it before, or use alloc()',
    });
  }
  // A window starts and ends on an 8-byte boundary.
  if (view.byteLength > WINDOW_MAX || (view.byteLength > WINDOW_MAX - 8 && view.byteOffset % 8 !== 0)) {
    throw new ArgumentError(`cannot register ${view.byteLength} bytes at once`, {
      hint: `register views of at most ${WINDOW_MAX} bytes, ${WINDOW_MAX - 8} unless they start on an 8-byte boundary`,
    });
  }
  keepInPlace(buffer);
  return new PinnedRegion(view);
}

function bufferOf(memory: PinnableMemory): ArrayBufferLike {
  if (ArrayBuffer.isView(memory)) return memory.buffer;
  if (memory instanceof ArrayBuffer || memory instanceof SharedArrayBuffer) return memory;
  if (memory instanceof WebAssembly.Memory) return memory.buffer;
  throw new ArgumentError('only memory can be registered', {
    hint: 'pass a Buffer, a typed array, an ArrayBuffer, a SharedArrayBuffer or a WebAssembly.Memory',
  });
}

function viewOf(memory: PinnableMemory, buffer: ArrayBufferLike): Uint8Array {
  if (memory instanceof Uint8Array) return memory;
  return ArrayBuffer.isView(memory) ? new Uint8Array(buffer, memory.byteOffset, memory.byteLength) : new Uint8Array(buffer);
}

import { createHash } from 'node:crypto';
import { type FileHandle, open, rename, rm, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { AbortError, ArgumentError, SdxiError } from '../errors.js';
import type { Mover } from '../mover/index.js';

/** Four buffers of one block each are held, so this is a quarter of the memory that a copy may take. */
export const BLOCK_BYTES_MAX = 64 * 2 ** 20;
/** Where throughput stops growing on the machines that this was measured on. */
export const BLOCK_BYTES = 8 * 2 ** 20;

/** What moves the bytes: a mover, or something that stands in for one. */
export type BlockMover = Pick<Mover, 'alloc' | 'free' | 'batch'>;

export interface FileCopyOptions {
  /** Bytes that one transfer moves; the memory held is four times as much. */
  blockBytes?: number;
  /** Flips one bit of the moved bytes before they are written, to show that the comparison finds it. */
  corrupt?: boolean;
  signal?: AbortSignal;
  /** Called after each block with the bytes copied so far, and those to be copied. */
  onProgress?: (done: number, total: number) => void;
}

export interface FileCopyReport {
  /** The destination, read back, has the SHA-256 of what was read from the source. */
  ok: boolean;
  source: string;
  destination: string;
  bytes: number;
  descriptors: number;
  /** Of the destination, read back. */
  sha256: string;
  sourceSha256: string;
  /** Reading, moving and writing. */
  seconds: number;
  /** Reading back and hashing. */
  verifySeconds: number;
}

/** One half of the double buffer: while one is moved and written, the other is read into. */
interface Slot {
  readonly from: Buffer;
  readonly to: Buffer;
  /** The block on its way out of this slot. */
  busy: Promise<void>;
}

/** A file system error in this package's words. */
function fileError(what: string, path: string, cause: unknown): SdxiError {
  const { code } = cause as NodeJS.ErrnoException;
  const hints: Record<string, string> = {
    ENOENT: 'check the path',
    EACCES: 'check the permissions',
    EISDIR: 'give the path of a file',
    ENOSPC: 'free space on that file system',
    EFBIG: 'the file system, or a limit (ulimit -f), takes no file of that size',
  };
  // Node's `ENOENT: no such file or directory, open '/path'`: what went wrong, without what is said already.
  const message = (cause instanceof Error ? cause.message : String(cause)).replace(/^[A-Z0-9_]+: /, '').replace(/, \w+( '.*')?$/, '');
  return new SdxiError('ERR_SDXI_SYSTEM', `${what} ${path}: ${message}`, { cause, hint: hints[code ?? ''], fields: { path, errno: code } });
}

async function attempt<T>(what: string, path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof SdxiError) throw error;
    throw fileError(what, path, error);
  }
}

/** The file that is meant: a directory means a file of the same name inside. Refuses the source itself, and what is no file. */
async function resolveDestination(source: string, destination: string): Promise<{ path: string; old?: { mode: number } }> {
  const from = await attempt('cannot read', source, () => stat(source));
  if (!from.isFile()) {
    throw new ArgumentError(`${source} is ${from.isDirectory() ? 'a directory' : 'no regular file'}`, {
      hint: 'copy takes one regular file: reading anything else may never end, and could not be interrupted',
      fields: { source },
    });
  }
  const find = async (path: string) => stat(path).catch(() => undefined);
  let path = destination;
  let to = await find(path);
  if (to?.isDirectory()) {
    path = join(path, basename(source));
    to = await find(path);
  }
  if (to && to.dev === from.dev && to.ino === from.ino) {
    throw new ArgumentError(`${source} and ${path} are the same file`, {
      hint: 'give another destination',
      fields: { source, destination: path },
    });
  }
  if (to && !to.isFile()) {
    throw new ArgumentError(`${path} is no regular file`, {
      hint: 'the destination is read back to verify it: give a file',
      fields: { destination: path },
    });
  }
  return { path, old: to };
}

/** Reads until the buffer is full or the file ends. */
async function readBlock(file: FileHandle, into: Buffer): Promise<number> {
  let filled = 0;
  while (filled < into.length) {
    const { bytesRead } = await file.read(into, filled, into.length - filled, null);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return filled;
}

async function writeBlock(file: FileHandle, bytes: Buffer, position: number): Promise<void> {
  for (let written = 0; written < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, written, bytes.length - written, position + written);
    written += bytesWritten;
  }
}

function checkBlock(blockBytes: number): void {
  if (Number.isInteger(blockBytes) && blockBytes >= 1 && blockBytes <= BLOCK_BYTES_MAX) return;
  throw new ArgumentError(`a block of ${blockBytes} bytes`, {
    hint: `blocks have 1 … ${BLOCK_BYTES_MAX} bytes: four are held in memory at a time`,
    fields: { blockBytes },
  });
}

/** Hashes a file through a buffer that exists already. */
async function hashFile(path: string, buffer: Buffer, signal?: AbortSignal): Promise<string> {
  const hash = createHash('sha256');
  const file = await attempt('cannot read back', path, () => open(path, 'r'));
  try {
    for (;;) {
      throwIfAborted(signal);
      const length = await attempt('cannot read back', path, () => readBlock(file, buffer));
      if (length === 0) return hash.digest('hex');
      hash.update(buffer.subarray(0, length));
    }
  } finally {
    await file.close();
  }
}

function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new AbortError('copy', { cause: signal.reason });
}

/** Moves the bytes of an open file into another, block by block. */
class Stream {
  descriptors = 0;
  bytes = 0;
  private readonly mover: BlockMover;
  private readonly slots: Slot[];
  private readonly options: FileCopyOptions;
  private readonly hash = createHash('sha256');

  constructor(mover: BlockMover, buffers: Buffer[], options: FileCopyOptions) {
    this.mover = mover;
    this.options = options;
    this.slots = [0, 2].map((i) => ({ from: buffers[i], to: buffers[i + 1], busy: Promise.resolve() }));
  }

  /** @returns the SHA-256 of what was read */
  async run(source: FileHandle, target: FileHandle, paths: { source: string; destination: string }, total: number): Promise<string> {
    const { slots, options } = this;
    try {
      for (let block = 0; ; block++) {
        const slot = slots[block % 2];
        await slot.busy;
        throwIfAborted(options.signal);
        const length = await attempt('cannot read', paths.source, () => readBlock(source, slot.from));
        if (length === 0) break;
        const position = this.bytes;
        this.bytes += length;
        slot.busy = this.move(slot, length, target, position, paths.destination);
        // Whoever awaits the slot next sees the failure; until then it is no unhandled one.
        slot.busy.catch(() => {});
        // The function works on these bytes now, and so may this thread: both only read them.
        this.hash.update(slot.from.subarray(0, length));
        options.onProgress?.(this.bytes, total);
      }
      for (const slot of slots) await slot.busy;
      return this.hash.digest('hex');
    } finally {
      // Buffers are freed by the caller: nothing may be on its way any more.
      await Promise.allSettled(slots.map((slot) => slot.busy));
    }
  }

  private async move(slot: Slot, length: number, target: FileHandle, position: number, path: string): Promise<void> {
    const from = slot.from.subarray(0, length);
    const to = slot.to.subarray(0, length);
    const { descriptors } = await this.mover.batch([{ op: 'copy', source: from, destination: to }], { signal: this.options.signal });
    this.descriptors += descriptors;
    if (this.options.corrupt && position === 0) to[length >>> 1] ^= 1;
    await attempt('cannot write', path, () => writeBlock(target, to, position));
  }
}

/**
 * Copies a file of any size through a function: reads a block, lets the function move it, writes the result, two blocks at a time.
 * The destination is then read back and compared with the source by SHA-256.
 *
 * A copy that fails or is aborted leaves nothing behind: a destination that existed is replaced when all is written, not before.
 * @throws ArgumentError for paths and block sizes that cannot be; SdxiError ERR_SDXI_SYSTEM with the path; AbortError; errors of the mover
 */
export async function copyFile(
  mover: BlockMover,
  source: string,
  destination: string,
  options: FileCopyOptions = {},
): Promise<FileCopyReport> {
  const blockBytes = options.blockBytes ?? BLOCK_BYTES;
  checkBlock(blockBytes);
  const { path, old } = await resolveDestination(source, destination);
  const part = old ? `${path}.sdxi-${process.pid}` : path;
  const input = await attempt('cannot read', source, () => open(source, 'r'));
  const buffers: Buffer[] = [];
  let finished = false;
  try {
    const { size, mode } = await input.stat();
    const output = await attempt('cannot write', path, () => open(part, 'w', (old?.mode ?? mode) & 0o777));
    try {
      // A small file needs no large buffers; files of unknown size (pipes, /proc) say 0.
      const held = size > 0 ? Math.min(blockBytes, size) : blockBytes;
      for (let i = 0; i < 4; i++) buffers.push(mover.alloc(held, { alignment: 4096 }));
      const start = performance.now();
      const stream = new Stream(mover, buffers, options);
      const sourceSha256 = await stream.run(input, output, { source, destination: path }, size);
      await attempt('cannot write', path, () => output.close());
      if (old) await attempt('cannot write', path, () => rename(part, path));
      finished = true;
      const copied = performance.now();
      const sha256 = await hashFile(path, buffers[0], options.signal);
      return {
        ok: sha256 === sourceSha256,
        source,
        destination: path,
        bytes: stream.bytes,
        descriptors: stream.descriptors,
        sha256,
        sourceSha256,
        seconds: (copied - start) / 1000,
        verifySeconds: (performance.now() - copied) / 1000,
      };
    } finally {
      await output.close();
      if (!finished) await rm(part, { force: true });
    }
  } finally {
    for (const buffer of buffers) mover.free(buffer);
    await input.close();
  }
}

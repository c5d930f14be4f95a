import { type BigIntStats, fstatSync } from 'node:fs';
import { SystemError } from '../errors.js';
import { WINDOW_MAX, Window } from '../memory/window.js';
import { isSealedAgainstShrinking, isWritable, mapShared, unmap } from '../native/libc.js';
import { Errno } from '../native/socket.js';
import type { Room } from './limits.js';

/** What a request was refused for: the errno of the reply, and a sentence for the log. */
export class Refusal {
  readonly errno: number;
  readonly why: string;

  constructor(errno: number, why: string) {
    this.errno = errno;
    this.why = why;
  }
}

/** A file of a client, mapped once as a whole, for as long as a mapping lies in it. */
export interface MappedFile {
  readonly key: string;
  readonly address: number;
  readonly byteLength: number;
  /** Windows of at most 2 GiB each, in the order of the file. */
  readonly windows: Window[];
  users: number;
}

/**
 * The files that a client's memory lies in. With a guest IOMMU there is one DMA_MAP per page, each with a descriptor of its own for the
 * same file: they are recognized by device and inode, and the file is mapped once, because a process has no more than 65,530 mappings.
 */
export class GuestFiles {
  private readonly files = new Map<string, MappedFile>();
  private readonly allowShrinkable: boolean;
  private readonly room: Room;

  constructor({ allowShrinkable, room }: { allowShrinkable: boolean; room: Room }) {
    this.allowShrinkable = allowShrinkable;
    this.room = room;
  }

  /**
   * The file behind a descriptor, which stays the caller's to close.
   * @param end bytes of it that must be there
   */
  acquire(fd: number, end: number, writable: boolean): MappedFile | Refusal {
    // Numbers of files have 64 bits, and two that differ must not look alike.
    let facts: BigIntStats;
    try {
      facts = fstatSync(fd, { bigint: true });
    } catch {
      return new Refusal(Errno.EBADF, 'its file descriptor is not open');
    }
    if (!facts.isFile()) return new Refusal(Errno.EINVAL, 'its file descriptor is no file that can be mapped');
    const size = Number(facts.size);
    if (end > size) return new Refusal(Errno.EINVAL, `its file has ${size} bytes, ${end} are needed`);
    if (writable && !isWritable(fd)) return new Refusal(Errno.EACCES, 'its file descriptor is open for reading only');
    // Memory behind the end of its file is a SIGBUS, so nobody may be able to move that end.
    if (!this.allowShrinkable && !isSealedAgainstShrinking(fd)) {
      return new Refusal(
        Errno.EINVAL,
        'its file can be made shorter while it is mapped, which would end this process: use memory-backend-memfd (sealed), or --allow-shrinkable-memory if you trust the client',
      );
    }
    const key = `${facts.dev}:${facts.ino}:${writable ? 'rw' : 'r'}`;
    const known = this.files.get(key);
    if (known !== undefined && known.byteLength >= end) {
      known.users++;
      return known;
    }
    return this.open(fd, key, size, writable);
  }

  private open(fd: number, key: string, size: number, writable: boolean): MappedFile | Refusal {
    // The last page of a file may be one in part; mmap counts in pages.
    const byteLength = Math.ceil(size / 4096) * 4096;
    if (!this.room.take(byteLength))
      return new Refusal(Errno.ENOMEM, `there is no room for a file of ${byteLength} bytes, or for one more`);
    let address: number;
    try {
      address = mapShared(fd, 0, byteLength, { writable });
    } catch (error) {
      this.room.give(byteLength);
      if (!(error instanceof SystemError)) throw error;
      return new Refusal(Number(error.fields.errno), `its file cannot be mapped: ${error.message}`);
    }
    const windows: Window[] = [];
    for (let at = 0; at < byteLength; at += WINDOW_MAX) {
      windows.push(Window.over(address + at, Math.min(WINDOW_MAX, byteLength - at)).window);
    }
    const file: MappedFile = { key, address, byteLength, windows, users: 1 };
    // A file that has grown is mapped anew; what lies in the old mapping keeps that.
    this.files.set(key, file);
    return file;
  }

  /** One mapping less lies in it: with the last the file goes. No view over it may be used any more. */
  release(file: MappedFile): void {
    if (--file.users > 0) return;
    if (this.files.get(file.key) === file) this.files.delete(file.key);
    unmap(file.address, file.byteLength);
    this.room.give(file.byteLength);
  }

  /** Files that are mapped. */
  get size(): number {
    return this.files.size;
  }
}

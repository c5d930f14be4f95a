import { SystemError } from '../errors.js';
import { WINDOW_MAX, Window } from '../memory/window.js';
import { fileFacts, isSealedAgainstShrinking, isWritable, mapShared, unmap } from '../native/libc.js';
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
  /** Those in which no mapping lies. */
  private readonly unused = new Set<MappedFile>();
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
    const facts = fileFacts(fd);
    if (facts === undefined) return new Refusal(Errno.EBADF, 'its file descriptor is not open');
    const { byteLength: size, identity, regular } = facts;
    if (!regular) return new Refusal(Errno.EINVAL, 'its file descriptor is no file that can be mapped');
    if (end > size) return new Refusal(Errno.EINVAL, `its file has ${size} bytes, ${end} are needed`);
    if (writable && !isWritable(fd)) return new Refusal(Errno.EACCES, 'its file descriptor is open for reading only');
    const key = `${identity}:${writable ? 'rw' : 'r'}`;
    const known = this.files.get(key);
    if (known !== undefined && known.byteLength >= end) {
      if (known.users++ === 0) this.unused.delete(known);
      return known;
    }
    // Memory behind the end of its file is a SIGBUS, so nobody may be able to move that end; what is sealed stays sealed.
    if (!this.allowShrinkable && !isSealedAgainstShrinking(fd)) {
      return new Refusal(
        Errno.EINVAL,
        'its file can be made shorter while it is mapped, which would end this process: use memory-backend-memfd (sealed), or --allow-shrinkable-memory if you trust the client',
      );
    }
    this.sweep();
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

  /**
   * One mapping less lies in it. After the last one nothing leads there any more; the file itself goes with the next {@link sweep}, because
   * a guest behind an IOMMU maps its next page in a moment, and mapping a file is a thousand times dearer than that.
   */
  release(file: MappedFile): void {
    if (--file.users === 0) this.unused.add(file);
  }

  /** Lets go of files in which no mapping lies: whenever there is nothing else to do. No view over them is used any more. */
  sweep(): void {
    if (this.unused.size === 0) return;
    for (const file of this.unused) {
      if (this.files.get(file.key) === file) this.files.delete(file.key);
      unmap(file.address, file.byteLength);
      this.room.give(file.byteLength);
    }
    this.unused.clear();
  }

  /** A file waits for {@link sweep}. */
  get untidy(): boolean {
    return this.unused.size > 0;
  }

  /** Files that are mapped. */
  get size(): number {
    return this.files.size;
  }
}

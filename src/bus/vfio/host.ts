/** The machine as this bus sees it: a few system calls and three trees of files. Tests put a model in its place. */
import { closeSync, openSync, readFileSync, readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { SystemError } from '../../errors.js';
import { ioctl } from '../../native/ioctl.js';
import { mapShared, unmap, viewMemory } from '../../native/libc.js';
import { Sysfs } from './sysfs.js';

/** Calls return -errno when they fail in the ordinary course of things. */
export interface Host {
  readonly sysfs: Sysfs;
  /** Where device files are: `/dev`. */
  readonly dev: string;
  /** A file of /proc, e.g. `self/limits`; '' when it cannot be read. */
  proc(name: string): string;
  /** Opens for reading and writing. @returns a descriptor, or -errno */
  open(path: string): number;
  close(fd: number): void;
  /** @returns what the call returns, or -errno */
  ioctl(fd: number, request: number, argument: number | Uint8Array): number;
  /** @returns bytes, or -errno */
  read(fd: number, bytes: Uint8Array, position: number): number;
  /** @returns bytes, or -errno */
  write(fd: number, bytes: Uint8Array, position: number): number;
  /** Maps a part of a device. @returns the address, or -errno */
  map(fd: number, offset: number, byteLength: number): number;
  unmap(address: number, byteLength: number): void;
  view(address: number, byteLength: number): ArrayBuffer;
}

/** This machine. */
export function thisHost(): Host {
  return {
    sysfs: new Sysfs(),
    dev: '/dev',
    proc: (name) => {
      try {
        return readFileSync(join('/proc', name), 'utf8');
      } catch {
        return '';
      }
    },
    open: (path) => result(() => openSync(path, 'r+')),
    close: closeSync,
    ioctl,
    read: (fd, bytes, position) => result(() => readSync(fd, bytes, 0, bytes.byteLength, position)),
    write: (fd, bytes, position) => result(() => writeSync(fd, bytes, 0, bytes.byteLength, position)),
    map: (fd, offset, byteLength) => {
      try {
        return mapShared(fd, offset, byteLength);
      } catch (error) {
        if (error instanceof SystemError) return -(error.fields.errno as number);
        throw error;
      }
    },
    unmap,
    view: viewMemory,
  };
}

function result(call: () => number): number {
  try {
    return call();
  } catch (error) {
    const { errno } = error as NodeJS.ErrnoException;
    if (typeof errno === 'number') return errno;
    throw error;
  }
}

/** Event counters of the kernel: how interrupts cross from one process to another, and how a thread that waits in `poll` is woken. */
import { readlinkSync } from 'node:fs';
import { SystemError } from '../errors.js';
import { errno, foreign } from './koffi.js';
import { addressOf } from './libc.js';

const EFD_CLOEXEC = 0x80000;
const EFD_NONBLOCK = 0x800;
const RWF_NOWAIT = 8;
const EOPNOTSUPP = 95;

interface Libc {
  eventfd(initial: number, flags: number): number;
  read(fd: number, into: number, length: number): number;
  preadv2(fd: number, vector: number, count: number, offset: number, flags: number): number;
  write(fd: number, from: number, length: number): number;
}

const libc = foreign<Libc>({
  eventfd: 'int eventfd(uint, int)',
  read: 'int64_t read(int, uintptr_t, size_t)',
  preadv2: 'int64_t preadv2(int, uintptr_t, int, int64_t, int)',
  write: 'int64_t write(int, uintptr_t, size_t)',
});

const one = new Uint8Array(new BigUint64Array([1n]).buffer);
const counter = new BigUint64Array(1);
let oneAt = 0;
let counterAt = 0;
/** struct iovec of the counter. */
const vector = new BigUint64Array([0n, 8n]);
let vectorAt = 0;

/** A counter at 0, of which no read or write ever waits. @throws SystemError */
export function createEventfd(): number {
  const fd = libc.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (fd < 0) throw new SystemError('eventfd', errno(), { hint: 'raise the limit of open files (ulimit -n)' });
  return fd;
}

/** Adds 1. @returns 0, or -errno (-EAGAIN when the counter is full: whoever waits is told all the same) */
export function signalEventfd(fd: number): number {
  if (oneAt === 0) oneAt = addressOf(one);
  return libc.write(fd, oneAt, 8) < 0 ? -errno() : 0;
}

/**
 * Takes all that was added. Never waits, although whoever else has the counter can make reads of it wait at any time, and be the first to read:
 * that is a property of the open file, which all of its descriptors share (fcntl). @returns 0 when nothing was
 */
export function drainEventfd(fd: number): number {
  if (counterAt === 0) {
    counterAt = addressOf(new Uint8Array(counter.buffer));
    vector[0] = BigInt(counterAt);
    vectorAt = addressOf(new Uint8Array(vector.buffer));
  }
  let got = libc.preadv2(fd, vectorAt, 1, -1, RWF_NOWAIT);
  // Before Linux 5.8 a counter cannot be read like that.
  if (got < 0 && errno() === EOPNOTSUPP) got = libc.read(fd, counterAt, 8);
  return got < 0 ? 0 : Number(counter[0]);
}

/** Whether a descriptor is such a counter: writing to anything else may wait, or do something. */
export function isEventfd(fd: number): boolean {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`) === 'anon_inode:[eventfd]';
  } catch {
    return false;
  }
}

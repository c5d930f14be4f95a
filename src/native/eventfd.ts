/** Event counters of the kernel: how interrupts cross from one process to another, and how a thread that waits in `poll` is woken. */
import { readlinkSync } from 'node:fs';
import { SystemError } from '../errors.js';
import { errno, foreign } from './koffi.js';
import { addressOf } from './libc.js';

const EFD_CLOEXEC = 0x80000;
const EFD_NONBLOCK = 0x800;

interface Libc {
  eventfd(initial: number, flags: number): number;
  read(fd: number, into: number, length: number): number;
  write(fd: number, from: number, length: number): number;
}

const libc = foreign<Libc>({
  eventfd: 'int eventfd(uint, int)',
  read: 'int64_t read(int, uintptr_t, size_t)',
  write: 'int64_t write(int, uintptr_t, size_t)',
});

const one = new Uint8Array(new BigUint64Array([1n]).buffer);
const counter = new BigUint64Array(1);
let oneAt = 0;
let counterAt = 0;

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

/** Takes all that was added. @returns 0 when nothing was */
export function drainEventfd(fd: number): number {
  if (counterAt === 0) counterAt = addressOf(new Uint8Array(counter.buffer));
  return libc.read(fd, counterAt, 8) < 0 ? 0 : Number(counter[0]);
}

/** Whether a descriptor is such a counter: writing to anything else may wait, or do something. */
export function isEventfd(fd: number): boolean {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`) === 'anon_inode:[eventfd]';
  } catch {
    return false;
  }
}

/** Control of devices: one system call on the calling thread, which returns when the kernel has done it. */
import { errno, foreign } from './koffi.js';
import { addressOf } from './libc.js';

interface Libc {
  ioctl(fd: number, request: number, argument: number): number;
}

const libc = foreign<Libc>({ ioctl: 'int ioctl(int, ulong, uintptr_t)' });

/**
 * @param argument a number, or a structure that the kernel reads and writes; one of less than 64 bytes should have an ArrayBuffer of its own
 * @returns what the call returns, or -errno
 */
export function ioctl(fd: number, request: number, argument: number | Uint8Array): number {
  const result = libc.ioctl(fd, request, typeof argument === 'number' ? argument : addressOf(argument));
  return result < 0 ? -errno() : result;
}

/**
 * libc through koffi: the one place with system calls. Addresses are JS numbers (user space lies below 2^47 on every Linux
 * this runs on), errors are {@link SystemError} with the errno.
 */
import { createRequire } from 'node:module';
import { SdxiError, SystemError } from '../errors.js';

interface Libc {
  mmap(address: number, length: number, protection: number, flags: number, fd: number, offset: number): bigint;
  munmap(address: bigint, length: number): number;
  memfd_create(name: string, flags: number): number;
  ftruncate(fd: number, length: number): number;
  close(fd: number): number;
}

type Koffi = typeof import('koffi');

const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;
const MFD_CLOEXEC = 1;
const MAP_FAILED = 0xffff_ffff_ffff_ffffn;

let koffi: Koffi | undefined;
let libc: Libc | undefined;

/** Loads libc on first use, so that importing this package never fails for someone who only decodes descriptors. */
function load(): { koffi: Koffi; libc: Libc } {
  if (koffi && libc) return { koffi, libc };
  if (process.platform !== 'linux') {
    throw new SdxiError('ERR_SDXI_UNSUPPORTED', `mapped memory needs Linux, this is ${process.platform}`, {
      hint: 'decoding and encoding work everywhere; run functions and movers on Linux (x64 or arm64)',
    });
  }
  try {
    koffi = createRequire(import.meta.url)('koffi') as Koffi;
  } catch (cause) {
    throw new SdxiError('ERR_SDXI_UNSUPPORTED', 'koffi, which reaches the system calls, could not be loaded', {
      cause,
      hint: 'install with optional dependencies (npm ci --include=optional); koffi ships prebuilt binaries for linux-x64 and linux-arm64',
    });
  }
  const lib = koffi.load('libc.so.6');
  libc = {
    mmap: lib.func('void *mmap(uintptr_t, size_t, int, int, int, int64_t)'),
    munmap: lib.func('int munmap(void *, size_t)'),
    memfd_create: lib.func('int memfd_create(const char *, uint)'),
    ftruncate: lib.func('int ftruncate(int, int64_t)'),
    close: lib.func('int close(int)'),
  };
  return { koffi, libc };
}

function check(call: string, result: number, hint?: string): number {
  if (result < 0) throw new SystemError(call, load().koffi.errno(), { hint });
  return result;
}

/** Anonymous shared memory of `length` bytes (multiple of 4096). Returns its file descriptor. @throws SystemError */
export function createMemfd(name: string, length: number): number {
  const { libc } = load();
  const fd = check('memfd_create', libc.memfd_create(name, MFD_CLOEXEC), 'raise the limit of open files (ulimit -n)');
  if (libc.ftruncate(fd, length) < 0) {
    const error = new SystemError('ftruncate', load().koffi.errno(), { fields: { length } });
    libc.close(fd);
    throw error;
  }
  return fd;
}

/** Closes a file descriptor. */
export function closeFd(fd: number): void {
  check('close', load().libc.close(fd));
}

/** Maps `length` bytes of `fd` shared, readable and writable. Returns the address. @throws SystemError */
export function mapShared(fd: number, offset: number, length: number): number {
  const { koffi, libc } = load();
  const address = libc.mmap(0, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);
  if (BigInt.asUintN(64, BigInt(address ?? 0)) === MAP_FAILED) {
    throw new SystemError('mmap', koffi.errno(), {
      fields: { length },
      hint: 'not enough memory, or vm.max_map_count (65530) mappings are in use',
    });
  }
  return Number(address);
}

/** Removes a mapping. Whoever still holds a view over it crashes on the next access: see memory/region.ts for who may call this. */
export function unmap(address: number, length: number): void {
  check('munmap', load().libc.munmap(BigInt(address), length));
}

/** An ArrayBuffer over `length` bytes at `address`: no copy, no ownership. */
export function viewMemory(address: number, length: number): ArrayBuffer {
  return load().koffi.view(BigInt(address), length);
}

/** The address of the first byte of a view (of an ArrayBuffer or SharedArrayBuffer). 0 for an empty one. */
export function addressOf(view: Uint8Array): number {
  return Number(load().koffi.address(view));
}

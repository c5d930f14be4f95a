/**
 * Memory and files, through libc. Addresses are JS numbers (user space lies below 2^47 on every Linux this runs on), errors are
 * {@link SystemError} with the errno.
 */
import { SystemError } from '../errors.js';
import { errno, foreign, koffiModule } from './koffi.js';

const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 0x01;
const MAP_PRIVATE = 0x02;
const MAP_FIXED = 0x10;
const MAP_ANONYMOUS = 0x20;
const MAP_NORESERVE = 0x4000;
const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const MFD_HUGETLB = 4;
/** log2 of 2 MiB in bits 31:26. */
const MFD_HUGE_2MB = 21 << 26;
const F_GETFD = 1;
const F_GETFL = 3;
const F_SETFL = 4;
const F_ADD_SEALS = 1033;
const F_GET_SEALS = 1034;
const F_SEAL_SHRINK = 2;
const EBADF = 9;
const O_ACCMODE = 3;
const O_RDONLY = 0;
const O_NONBLOCK = 0x800;
const MADV_DONTNEED = 4;

interface Libc {
  mmap(address: number, length: number, protection: number, flags: number, fd: number, offset: number): number;
  munmap(address: number, length: number): number;
  madvise(address: number, length: number, advice: number): number;
  memfd_create(name: string, flags: number): number;
  ftruncate(fd: number, length: number): number;
  close(fd: number): number;
  fcntl(fd: number, command: number, argument: number): number;
  statx(folder: number, path: string, flags: number, mask: number, into: number): number;
}

const libc = foreign<Libc>({
  mmap: 'intptr_t mmap(uintptr_t, size_t, int, int, int, int64_t)',
  munmap: 'int munmap(uintptr_t, size_t)',
  madvise: 'int madvise(uintptr_t, size_t, int)',
  memfd_create: 'int memfd_create(const char *, uint)',
  ftruncate: 'int ftruncate(int, int64_t)',
  close: 'int close(int)',
  fcntl: 'int fcntl(int, int, int)',
  statx: 'int statx(int, const char *, int, uint, uintptr_t)',
});

function check(call: string, result: number, hint?: string): number {
  if (result < 0) throw new SystemError(call, errno(), { hint });
  return result;
}

/**
 * Anonymous shared memory of `length` bytes (multiple of 4096), which cannot be made shorter: whoever maps it in another process can rely
 * on every byte. With `hugePages` it comes in pages of 2 MiB (and `length` is a multiple of that), of which the system has to have some set
 * aside. Returns its file descriptor. @throws SystemError
 */
export function createMemfd(name: string, length: number, { hugePages = false } = {}): number {
  const flags = MFD_CLOEXEC | MFD_ALLOW_SEALING | (hugePages ? MFD_HUGETLB | MFD_HUGE_2MB : 0);
  const fd = check('memfd_create', libc.memfd_create(name, flags), 'raise the limit of open files (ulimit -n)');
  if (libc.ftruncate(fd, length) < 0) {
    const error = new SystemError('ftruncate', errno(), { fields: { length } });
    libc.close(fd);
    throw error;
  }
  check('fcntl(F_ADD_SEALS)', libc.fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK));
  return fd;
}

/**
 * Closes a file descriptor. The kernel does that whatever else it returns: what a file of somebody else's says then (EIO of a network, for
 * one) is not this caller's matter. @throws SystemError EBADF when it was not open
 */
export function closeFd(fd: number): void {
  if (libc.close(fd) < 0 && errno() === EBADF) throw new SystemError('close', EBADF);
}

const AT_EMPTY_PATH = 0x1000;
const STATX_TYPE_INO_SIZE = 0x301;
const S_IFMT = 0xf000;
const S_IFREG = 0x8000;
const STATX_BYTES = 256;

/** What the kernel tells of an open file: struct statx, which is the same on every architecture. */
export interface FileFacts {
  /** Two descriptors with the same one are the same file. */
  readonly identity: string;
  /** An ordinary file, or one of memory. */
  readonly regular: boolean;
  readonly byteLength: number;
}

const statxBuffer = new Uint8Array(STATX_BYTES);
const statxView = new DataView(statxBuffer.buffer);

/** @returns undefined for a descriptor that is not open */
export function fileFacts(fd: number): FileFacts | undefined {
  if (libc.statx(fd, '', AT_EMPTY_PATH, STATX_TYPE_INO_SIZE, addressOf(statxBuffer)) < 0) return undefined;
  const word = (offset: number) => statxView.getUint32(offset, true);
  return {
    identity: `${word(136)}:${word(140)}:${word(36)}:${word(32)}`,
    regular: (statxView.getUint16(28, true) & S_IFMT) === S_IFREG,
    byteLength: word(44) * 2 ** 32 + word(40),
  };
}

/** Whether nobody can make the file shorter any more: only memory files have that, and only when they were sealed. */
export function isSealedAgainstShrinking(fd: number): boolean {
  const seals = libc.fcntl(fd, F_GET_SEALS, 0);
  return seals >= 0 && (seals & F_SEAL_SHRINK) !== 0;
}

export function isOpen(fd: number): boolean {
  return libc.fcntl(fd, F_GETFD, 0) >= 0;
}

/** Whether the descriptor was opened for writing. @throws SystemError */
export function isWritable(fd: number): boolean {
  return (check('fcntl(F_GETFL)', libc.fcntl(fd, F_GETFL, 0)) & O_ACCMODE) !== O_RDONLY;
}

/** From now on no read or write of the open file waits, whoever makes it. @throws SystemError */
export function setNonBlocking(fd: number): void {
  const flags = check('fcntl(F_GETFL)', libc.fcntl(fd, F_GETFL, 0));
  check('fcntl(F_SETFL)', libc.fcntl(fd, F_SETFL, flags | O_NONBLOCK));
}

function map(address: number, length: number, protection: number, flags: number, fd: number, offset: number): number {
  const start = libc.mmap(address, length, protection, flags, fd, offset);
  if (start === -1) {
    throw new SystemError('mmap', errno(), {
      fields: { length },
      hint: 'not enough memory, or vm.max_map_count (65530) mappings are in use',
    });
  }
  return start;
}

/** Maps `length` bytes of `fd` shared, readable and, unless told otherwise, writable. Returns the address. @throws SystemError */
export function mapShared(fd: number, offset: number, length: number, { writable = true } = {}): number {
  return map(0, length, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, offset);
}

/** Zeroed memory of this process alone, which takes no place until it is touched. Returns the address. @throws SystemError */
export function mapPrivate(length: number): number {
  return map(0, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

/** Puts fresh zeroed memory in the place of a mapping, all at once: who still looks at it sees zeros. @throws SystemError */
export function mapPrivateOver(address: number, length: number): void {
  map(address, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}

/** Gives the pages of private memory back; they read as zeros from then on. @throws SystemError */
export function discardPages(address: number, length: number): void {
  check('madvise', libc.madvise(address, length, MADV_DONTNEED));
}

/** Removes a mapping. Whoever still holds a view over it crashes on the next access: see memory/region.ts for who may call this. */
export function unmap(address: number, length: number): void {
  check('munmap', libc.munmap(address, length));
}

/** An ArrayBuffer over `length` bytes at `address`: no copy, no ownership. */
export function viewMemory(address: number, length: number): ArrayBuffer {
  return koffiModule().view(BigInt(address), length);
}

/** The address of the first byte of a view (of an ArrayBuffer or SharedArrayBuffer). 0 for an empty one. */
export function addressOf(view: Uint8Array): number {
  return Number(koffiModule().address(view));
}

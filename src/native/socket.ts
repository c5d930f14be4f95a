/**
 * Unix stream sockets that carry file descriptors, without Node's event loop: every call is one system call, made at once on the calling
 * thread. Calls that may fail in the ordinary course of things return `-errno`.
 */
import { statSync } from 'node:fs';
import { SdxiError, SystemError } from '../errors.js';
import { errno, foreign } from './koffi.js';
import { addressOf, closeFd } from './libc.js';

/** Clients that may wait to be accepted; who comes after them is told at once. */
const BACKLOG = 128;

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0x800;
const SOCK_CLOEXEC = 0x80000;
const SOL_SOCKET = 1;
const SO_PEERCRED = 17;
const SCM_RIGHTS = 1;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x4000_0000;
const MSG_CTRUNC = 8;
/** sun_path, its terminating zero included. */
const PATH_BYTES = 108;

export const Errno = {
  EPERM: 1,
  ENOENT: 2,
  EIO: 5,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  EINVAL: 22,
  ENOTTY: 25,
  ENOSPC: 28,
  EMSGSIZE: 90,
  EINTR: 4,
  EPIPE: 32,
  ENOSYS: 38,
  EPROTO: 71,
  EOPNOTSUPP: 95,
  EADDRINUSE: 98,
  ECONNRESET: 104,
  ECONNREFUSED: 111,
} as const;
export type Errno = (typeof Errno)[keyof typeof Errno];

interface Libc {
  socket(domain: number, type: number, protocol: number): number;
  socketpair(domain: number, type: number, protocol: number, fds: Int32Array): number;
  bind(fd: number, address: Uint8Array, length: number): number;
  listen(fd: number, backlog: number): number;
  accept4(fd: number, address: number, length: number, flags: number): number;
  connect(fd: number, address: Uint8Array, length: number): number;
  recvmsg(fd: number, message: number, flags: number): number;
  sendmsg(fd: number, message: number, flags: number): number;
  recv(fd: number, into: number, length: number, flags: number): number;
  send(fd: number, from: number, length: number, flags: number): number;
  getsockopt(fd: number, level: number, name: number, value: Int32Array, length: Int32Array): number;
  poll(fds: number, count: number, timeoutMs: number): number;
  shutdown(fd: number, how: number): number;
}

const libc = foreign<Libc>({
  socket: 'int socket(int, int, int)',
  socketpair: 'int socketpair(int, int, int, void *)',
  bind: 'int bind(int, const void *, uint)',
  listen: 'int listen(int, int)',
  accept4: 'int accept4(int, uintptr_t, uintptr_t, int)',
  connect: 'int connect(int, const void *, uint)',
  recvmsg: 'int64_t recvmsg(int, uintptr_t, int)',
  sendmsg: 'int64_t sendmsg(int, uintptr_t, int)',
  recv: 'int64_t recv(int, uintptr_t, size_t, int)',
  send: 'int64_t send(int, uintptr_t, size_t, int)',
  getsockopt: 'int getsockopt(int, int, int, void *, void *)',
  poll: 'int poll(uintptr_t, uint64_t, int)',
  shutdown: 'int shutdown(int, int)',
});

function socketAddress(path: string): Uint8Array {
  const name = Buffer.from(path);
  if (name.length === 0 || name.length >= PATH_BYTES || name.includes(0)) {
    throw new SdxiError('ERR_SDXI_ARGUMENT', `"${path}" cannot be the path of a socket`, {
      hint: `give a path of 1 … ${PATH_BYTES - 1} bytes; a relative one may be shorter`,
      fields: { path },
    });
  }
  const address = Buffer.alloc(2 + name.length + 1);
  address.writeUInt16LE(AF_UNIX, 0);
  name.copy(address, 2);
  return address;
}

function newSocket(flags = 0): number {
  const fd = libc.socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
  if (fd < 0) throw new SystemError('socket', errno(), { hint: 'raise the limit of open files (ulimit -n)' });
  return fd;
}

/** A socket that listens at `path`, which must not exist. @throws SystemError; SdxiError ERR_SDXI_ARGUMENT for a path that is too long */
export function listenAt(path: string): number {
  const address = socketAddress(path);
  const fd = newSocket();
  const fail = (call: string): never => {
    const error = new SystemError(call, errno(), { fields: { path } });
    closeFd(fd);
    throw error;
  };
  if (libc.bind(fd, address, address.length) < 0) fail('bind');
  if (libc.listen(fd, BACKLOG) < 0) fail('listen');
  return fd;
}

/** Whether there is a socket at `path`, of whom ever. */
export function isSocket(path: string): boolean {
  try {
    return statSync(path).isSocket();
  } catch {
    return false;
  }
}

/** Connects to the socket at `path`, or finds at once that it cannot. @returns a descriptor, or -errno (-EAGAIN when too many wait there) */
export function connectTo(path: string): number {
  const address = socketAddress(path);
  const fd = newSocket(SOCK_NONBLOCK);
  if (libc.connect(fd, address, address.length) === 0) return fd;
  const error = -errno();
  closeFd(fd);
  return error;
}

/** Takes the next connection. @returns a descriptor, or -errno */
export function acceptFrom(listener: number): number {
  const fd = libc.accept4(listener, 0, 0, SOCK_CLOEXEC);
  return fd < 0 ? -errno() : fd;
}

/** Two ends of one connection. @throws SystemError */
export function socketPair(): [number, number] {
  const fds = new Int32Array(2);
  if (libc.socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0) throw new SystemError('socketpair', errno());
  return [fds[0], fds[1]];
}

/** Process id of the other end, as it was when it connected; 0 when it is not known. */
export function peerProcess(fd: number): number {
  const credentials = new Int32Array(3);
  return libc.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, credentials, new Int32Array([12])) < 0 ? 0 : credentials[0];
}

/** Ends both directions: whoever waits on the connection wakes up, in this process too. */
export function shutDown(fd: number): void {
  libc.shutdown(fd, 2);
}

// struct msghdr, iovec and a control message of FDS_MAX descriptors, at fixed places of one buffer.
const IOV = 56;
const CONTROL = IOV + 16;
const CMSG_HEADER = 16;

/** Most descriptors that one message can bring. */
export const FDS_MAX = 16;
const CONTROL_BYTES = CMSG_HEADER + FDS_MAX * 4;

/** Sends and receives out of one buffer: the structures that the calls need are made once. */
export class SocketBuffer {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Descriptors that the last {@link receive} brought: the caller's to close. */
  readonly fds: number[] = [];
  /** The last receive lost descriptors because there were too many. */
  truncated = false;
  private readonly base: number;
  private readonly header: Uint8Array;
  private readonly view: DataView;
  private readonly at: number;

  constructor(byteLength: number) {
    this.bytes = new Uint8Array(new ArrayBuffer(byteLength));
    this.base = addressOf(this.bytes);
    this.header = new Uint8Array(new ArrayBuffer(CONTROL + CONTROL_BYTES));
    this.at = addressOf(this.header);
    const view = new DataView(this.header.buffer);
    this.view = view;
    view.setBigUint64(16, BigInt(this.at + IOV), true);
    view.setBigUint64(24, 1n, true);
    view.setBigUint64(32, BigInt(this.at + CONTROL), true);
  }

  /**
   * Receives at most `length` bytes into {@link bytes} at `offset`, without waiting. Descriptors that come along are in {@link fds}.
   * @returns bytes; 0 when the other end is gone; -errno (-EAGAIN when there is nothing)
   */
  receive(fd: number, offset: number, length: number): number {
    const { view } = this;
    this.vector(offset, length);
    view.setUint32(40, CONTROL_BYTES, true);
    view.setUint32(44, 0, true);
    const received = libc.recvmsg(fd, this.at, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (this.fds.length > 0) this.fds.length = 0;
    this.truncated = false;
    if (received < 0) return -errno();
    if (view.getUint32(40, true) !== 0 || view.getInt32(48, true) !== 0) this.takeDescriptors();
    return received;
  }

  /** The same where no descriptors can belong: the kernel closes those that come. */
  receiveBytes(fd: number, offset: number, length: number): number {
    const received = libc.recv(fd, this.base + offset, length, MSG_DONTWAIT);
    return received < 0 ? -errno() : received;
  }

  private takeDescriptors(): void {
    const { view } = this;
    const control = view.getUint32(40, true);
    this.truncated = (view.getInt32(48, true) & MSG_CTRUNC) !== 0;
    if (control < CMSG_HEADER || view.getInt32(CONTROL + 8, true) !== SOL_SOCKET || view.getInt32(CONTROL + 12, true) !== SCM_RIGHTS)
      return;
    const end = Math.min(view.getUint32(CONTROL, true), control);
    for (let at = CMSG_HEADER; at + 4 <= end; at += 4) this.fds.push(view.getInt32(CONTROL + at, true));
  }

  /** Sends bytes of {@link bytes}, with descriptors, without waiting. @returns bytes, or -errno */
  send(fd: number, offset: number, length: number, fds: readonly number[] = NONE): number {
    const sent =
      fds.length === 0 ? libc.send(fd, this.base + offset, length, MSG_DONTWAIT | MSG_NOSIGNAL) : this.sendWith(fd, offset, length, fds);
    return sent < 0 ? -errno() : sent;
  }

  private sendWith(fd: number, offset: number, length: number, fds: readonly number[]): number {
    const { view } = this;
    this.vector(offset, length);
    view.setBigUint64(CONTROL, BigInt(CMSG_HEADER + fds.length * 4), true);
    view.setInt32(CONTROL + 8, SOL_SOCKET, true);
    view.setInt32(CONTROL + 12, SCM_RIGHTS, true);
    for (let i = 0; i < fds.length; i++) view.setInt32(CONTROL + CMSG_HEADER + 4 * i, fds[i], true);
    // CMSG_SPACE: rounded up to 8 bytes.
    view.setUint32(40, CMSG_HEADER + ((fds.length * 4 + 7) & ~7), true);
    view.setUint32(44, 0, true);
    return libc.sendmsg(fd, this.at, MSG_DONTWAIT | MSG_NOSIGNAL);
  }

  private vector(offset: number, length: number): void {
    const { view } = this;
    const address = this.base + offset;
    view.setUint32(IOV, address >>> 0, true);
    view.setUint32(IOV + 4, Math.floor(address / 2 ** 32), true);
    view.setUint32(IOV + 8, length, true);
    view.setUint32(IOV + 12, 0, true);
  }
}

const NONE: readonly number[] = [];

/** What {@link Poller} waits for and reports; ERROR and HANGUP are reported in any case. */
export const Poll = { IN: 1, OUT: 4, ERROR: 8, HANGUP: 0x10, INVALID: 0x20, PEER_CLOSED: 0x2000 } as const;

/** A set of descriptors to wait on. */
export class Poller {
  private readonly entries: DataView;
  private readonly at: number;
  private readonly keep: Uint8Array;
  private count = 0;

  constructor(capacity: number) {
    this.keep = new Uint8Array(new ArrayBuffer(capacity * 8));
    this.entries = new DataView(this.keep.buffer);
    this.at = addressOf(this.keep);
  }

  /** The whole set anew. */
  set(...wanted: readonly (readonly [fd: number, events: number])[]): void {
    this.count = wanted.length;
    for (const [i, [fd, events]] of wanted.entries()) this.change(i, fd, events);
  }

  /** One entry anew. A negative descriptor is skipped. */
  change(index: number, fd: number, events: number): void {
    this.entries.setInt32(index * 8, fd, true);
    this.entries.setUint16(index * 8 + 4, events, true);
    this.entries.setUint16(index * 8 + 6, 0, true);
    if (index >= this.count) this.count = index + 1;
  }

  /**
   * Waits until something has happened or `timeoutMs` passed (0: does not wait; -1: for ever). Blocks the thread.
   * @returns how many descriptors have something; -errno
   */
  wait(timeoutMs: number): number {
    const ready = libc.poll(this.at, this.count, timeoutMs);
    return ready < 0 ? -errno() : ready;
  }

  /** Bits of {@link Poll} that the last wait found. */
  found(index: number): number {
    return this.entries.getUint16(index * 8 + 6, true);
  }
}

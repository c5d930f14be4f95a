import { closeSync, openSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { createEventfd } from '../../src/native/eventfd.js';
import { foreign } from '../../src/native/koffi.js';
import { addressOf, closeFd, createMemfd } from '../../src/native/libc.js';
import { Errno, Poll, Poller, SocketBuffer, socketPair } from '../../src/native/socket.js';
import { connected } from './raw.js';

const libc = foreign<{ sendmsg(fd: number, header: number, flags: number): number }>({ sendmsg: 'int64_t sendmsg(int, uintptr_t, int)' });

/** Memory that a driver has allocated: garbage collection may close what earlier tests of this process have forgotten, at any moment. */
const DRIVER_MEMORY = 'memfd:sdxi-dma';

/** Open files of this process, in which the server's threads run as well. */
export const openFiles = (): number =>
  readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return !readlinkSync(`/proc/self/fd/${fd}`).includes(DRIVER_MEMORY);
    } catch {
      return true; // closed since: so it is with the one that lists them, every time
    }
  }).length;

/** Mappings of this process or another, or those of a file whose name contains `what`. */
export function mappings(what = '', pid: number | 'self' = 'self'): number {
  return readFileSync(`/proc/${pid}/maps`, 'utf8')
    .split('\n')
    .filter((line) => line !== '' && line.includes(what) && !(pid === 'self' && line.includes(DRIVER_MEMORY))).length;
}

/** A message as bytes, of which everything may be wrong. */
export function message({ id = 1, command = 0, size, flags = 0, error = 0, body = new Uint8Array(0) }: Partial<RawMessage>): Buffer {
  const header = Buffer.alloc(16);
  header.writeUInt16LE(id, 0);
  header.writeUInt16LE(command, 2);
  header.writeUInt32LE(size ?? 16 + body.length, 4);
  header.writeUInt32LE(flags, 8);
  header.writeUInt32LE(error, 12);
  return Buffer.concat([header, body]);
}

export interface RawMessage {
  id: number;
  command: number;
  size: number;
  flags: number;
  error: number;
  body: Uint8Array;
}

/** A connection that sends bytes as they are given, in as many pieces as are asked for. */
export class Wire {
  readonly fd: number;
  private readonly buffer = new SocketBuffer(2 << 20);
  private readonly poller = new Poller(1);

  /** @param path of the server's socket, or a connection that there is */
  constructor(path: string | number) {
    this.fd = typeof path === 'number' ? path : connected(path);
  }

  /** Sends all of it, waiting for room. @returns false when the other end is gone */
  send(bytes: Uint8Array, fds: readonly number[] = [], limitMs = 5000): boolean {
    const deadline = performance.now() + limitMs;
    for (let at = 0; at < bytes.length; ) {
      const piece = bytes.subarray(at, at + (1 << 20));
      this.buffer.bytes.set(piece);
      const sent = this.buffer.send(this.fd, 0, piece.length, at === 0 ? fds : []);
      if (sent === -Errno.EAGAIN) {
        if (performance.now() > deadline) throw new Error('the server takes nothing');
        this.poller.set([this.fd, Poll.OUT]);
        this.poller.wait(10);
      } else if (sent < 0) return false;
      else at += sent;
    }
    return true;
  }

  /** Exactly `count` bytes, or fewer when the connection ends. */
  receive(count: number, limitMs = 5000): Buffer {
    const parts: Buffer[] = [];
    const deadline = performance.now() + limitMs;
    for (let got = 0; got < count; ) {
      const received = this.buffer.receive(this.fd, 0, Math.min(count - got, 1 << 20));
      for (const fd of this.buffer.fds) closeFd(fd);
      if (received === -Errno.EAGAIN) {
        if (performance.now() > deadline) throw new Error(`${got} of ${count} bytes came`);
        this.poller.set([this.fd, Poll.IN]);
        this.poller.wait(10);
      } else if (received <= 0) break;
      else {
        parts.push(Buffer.from(this.buffer.bytes.subarray(0, received)));
        got += received;
      }
    }
    return Buffer.concat(parts);
  }

  /** The next message; undefined when the connection has ended. */
  next(limitMs?: number): { id: number; command: number; flags: number; error: number; body: Buffer } | undefined {
    const header = this.receive(16, limitMs);
    if (header.length < 16) return undefined;
    return {
      id: header.readUInt16LE(0),
      command: header.readUInt16LE(2),
      flags: header.readUInt32LE(8),
      error: header.readUInt32LE(12),
      body: this.receive(header.readUInt32LE(4) - 16, limitMs),
    };
  }

  close(): void {
    closeFd(this.fd);
  }
}

/** One write with more descriptors than a {@link SocketBuffer} has room for. */
export function sendMany(fd: number, bytes: Uint8Array, fds: readonly number[]): void {
  const content = new Uint8Array(new ArrayBuffer(bytes.length));
  content.set(bytes);
  const header = Buffer.alloc(4096);
  const at = addressOf(header);
  header.writeBigUInt64LE(BigInt(at + 56), 16);
  header.writeBigUInt64LE(1n, 24);
  header.writeBigUInt64LE(BigInt(at + 72), 32);
  header.writeBigUInt64LE(BigInt(16 + 4 * fds.length), 40);
  header.writeBigUInt64LE(BigInt(addressOf(content)), 56);
  header.writeBigUInt64LE(BigInt(content.length), 64);
  header.writeBigUInt64LE(BigInt(16 + 4 * fds.length), 72);
  header.writeInt32LE(1, 80); // SOL_SOCKET
  header.writeInt32LE(1, 84); // SCM_RIGHTS
  for (const [i, one] of fds.entries()) header.writeInt32LE(one, 88 + 4 * i);
  if (libc.sendmsg(fd, at, 0) !== content.length) throw new Error('sendmsg failed');
}

/** Descriptors of every kind but the right one, for memory. All are to be closed by {@link close}. */
export class Oddities {
  private readonly own: number[] = [];

  private keep(...fds: number[]): number {
    this.own.push(...fds);
    return fds[0];
  }

  file(path: string, flags: string | number = 'r'): number {
    return this.keep(openSync(path, flags));
  }

  memory(byteLength: number): number {
    return this.keep(createMemfd('sdxi-hostile', byteLength));
  }

  /** The same memory, open for reading only. */
  readOnly(fd: number): number {
    return this.file(`/proc/self/fd/${fd}`, 'r');
  }

  event(): number {
    return this.keep(createEventfd());
  }

  socket(): number {
    return this.keep(...socketPair());
  }

  close(): void {
    for (const fd of this.own) closeSync(fd);
    this.own.length = 0;
  }
}

/** Waits until it is so. @throws Error with `what` when it takes too long */
export async function until(what: string, condition: () => boolean, limitMs = 5000): Promise<void> {
  for (const deadline = performance.now() + limitMs; !condition(); ) {
    if (performance.now() >= deadline) throw new Error(`not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

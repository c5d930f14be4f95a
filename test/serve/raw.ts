import { closeFd } from '../../src/native/libc.js';
import { connectTo, Errno, Poll, Poller } from '../../src/native/socket.js';
import { Connection, Received } from '../../src/vfio-user/connection.js';
import {
  type Capabilities,
  Command,
  DMA_ACCESS_BYTES,
  encodeVersion,
  Feature,
  FeatureFlag,
  Flag,
  field64,
  MapFlag,
  MigrationState,
  Region,
  setField64,
} from '../../src/vfio-user/messages.js';

/** What came back: errno 0, or the one of the reply. */
export interface Answer {
  readonly errno: number;
  readonly body: Buffer;
  readonly fds: readonly number[];
}

export const PROPOSED: Capabilities = {
  max_msg_fds: 16,
  max_data_xfer_size: 1 << 20,
  max_dma_maps: 65535,
  pgsizes: 4096,
  write_multiple: true,
};

/** Fields of a body: `u32`, `u64`, or bytes. */
export function body(...fields: ({ u16: number } | { u32: number } | { u64: number | bigint } | Uint8Array)[]): Buffer {
  const parts = fields.map((field) => {
    if (field instanceof Uint8Array) return Buffer.from(field);
    const part = Buffer.alloc('u16' in field ? 2 : 'u32' in field ? 4 : 8);
    if ('u16' in field) part.writeUInt16LE(field.u16);
    else if ('u32' in field) part.writeUInt32LE(field.u32 >>> 0);
    else part.writeBigUInt64LE(BigInt(field.u64));
    return part;
  });
  return Buffer.concat(parts);
}

const LIMIT_MS = 10_000;

/** Connects, with the patience that a busy server needs. @returns a descriptor */
export function connected(path: string): number {
  for (const deadline = performance.now() + LIMIT_MS; ; sleepBriefly()) {
    const fd = connectTo(path);
    if (fd >= 0) return fd;
    if (fd !== -Errno.EAGAIN || performance.now() > deadline) throw new Error(`cannot connect to ${path}: errno ${-fd}`);
  }
}

const sleepBriefly = () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2);

/** A client that sends what it is told and waits for each answer on the calling thread; the server has threads of its own. */
export class RawClient {
  readonly connection: Connection;
  /** Serves DMA_READ and DMA_WRITE, while an answer is waited for and in {@link serve}; undefined: they are left unanswered. */
  memory: { read(address: number, count: number): Uint8Array | undefined; write(address: number, bytes: Uint8Array): boolean } | undefined;
  readonly dma: { command: number; address: number; count: number }[] = [];
  private readonly poller = new Poller(1);
  private nextId = 1;

  constructor(path: string, { version = true } = {}) {
    this.connection = new Connection(connected(path));
    if (version) {
      const answer = this.request(Command.VERSION, encodeVersion(0, 0, PROPOSED));
      if (answer.errno !== 0) throw new Error(`VERSION failed with errno ${answer.errno}`);
    }
  }

  /** Sends a command. @returns its id */
  send(command: number, content: Uint8Array = new Uint8Array(0), fds: readonly number[] = [], flags: number = Flag.COMMAND): number {
    const id = this.nextId;
    this.nextId = (id % 0xffff) + 1;
    this.connection.outBody.set(content);
    if (this.connection.send(id, command, content.length, flags, 0, fds) < 0) throw new Error('the server is gone');
    return id;
  }

  /** The reply to a command. @throws Error when the connection ends instead */
  answer(id: number): Answer {
    for (;;) {
      const { connection } = this;
      this.next();
      if ((connection.flags & Flag.TYPE) === Flag.COMMAND) {
        this.serveDma();
        continue;
      }
      if (connection.id !== id) throw new Error(`a reply to ${connection.id}, ${id} was expected`);
      return {
        errno: (connection.flags & Flag.ERROR) !== 0 ? connection.error : 0,
        body: Buffer.from(connection.body),
        fds: connection.takeFds(),
      };
    }
  }

  request(command: number, content?: Uint8Array, fds: readonly number[] = []): Answer {
    return this.answer(this.send(command, content, fds));
  }

  /** The next message, whatever it is. @throws Error when the connection ends */
  next(limitMs = LIMIT_MS): void {
    const { connection, poller } = this;
    for (const deadline = performance.now() + limitMs; ; ) {
      const received = connection.receive();
      if (received === Received.MESSAGE) return;
      if (received !== Received.NOTHING) throw new Error(`the connection has ended: ${connection.fault}`);
      if (performance.now() >= deadline) throw new Error('no answer');
      poller.set([connection.fd, Poll.IN | (connection.sending ? Poll.OUT : 0)]);
      poller.wait(100);
      connection.flush();
    }
  }

  /** True when the server ends the connection before anything else comes. */
  ended(limitMs = LIMIT_MS): boolean {
    try {
      this.next(limitMs);
      return false;
    } catch (error) {
      return (error as Error).message.startsWith('the connection has ended');
    }
  }

  /** Answers the server's requests until `done`. */
  serve(done: () => boolean, limitMs = LIMIT_MS): void {
    const { connection, poller } = this;
    for (const deadline = performance.now() + limitMs; !done(); ) {
      if (performance.now() >= deadline) throw new Error('not done in time');
      const received = connection.receive();
      if (received === Received.NOTHING) {
        poller.set([connection.fd, Poll.IN | (connection.sending ? Poll.OUT : 0)]);
        poller.wait(1);
        connection.flush();
      } else if (received === Received.MESSAGE) this.serveDma();
      else throw new Error(`the connection has ended: ${connection.fault}`);
    }
  }

  private serveDma(): void {
    const { connection, memory } = this;
    const { id, command, view } = connection;
    const address = field64(view, 0);
    const count = field64(view, 8);
    this.dma.push({ command, address, count });
    if (memory === undefined) return;
    const refuse = () => connection.send(id, command, 0, Flag.REPLY | Flag.ERROR, 14);
    if (command === Command.DMA_READ) {
      const bytes = memory.read(address, count);
      if (bytes === undefined) refuse();
      else {
        connection.outBody.set(body({ u64: address }, { u64: count }, bytes));
        connection.send(id, command, DMA_ACCESS_BYTES + bytes.length, Flag.REPLY);
      }
    } else if (!memory.write(address, connection.body.slice(DMA_ACCESS_BYTES))) refuse();
    else {
      connection.outBody.set(body({ u64: address }, { u64: count }));
      connection.send(id, command, DMA_ACCESS_BYTES, Flag.REPLY);
    }
  }

  // ---- Shorthands

  read(region: number, offset: number, count: number): Buffer {
    const { errno, body: answer } = this.request(Command.REGION_READ, body({ u64: offset }, { u32: region }, { u32: count }));
    if (errno !== 0) throw new Error(`reading failed with errno ${errno}`);
    return answer.subarray(16);
  }

  write(region: number, offset: number, bytes: Uint8Array, { posted = false } = {}): number {
    const content = body({ u64: offset }, { u32: region }, { u32: bytes.length }, bytes);
    if (posted) {
      this.send(Command.REGION_WRITE, content, [], Flag.COMMAND | Flag.NO_REPLY);
      return 0;
    }
    return this.request(Command.REGION_WRITE, content).errno;
  }

  register(offset: number): bigint {
    return this.read(Region.BAR0, offset, 8).readBigUInt64LE();
  }

  setRegister(offset: number, value: bigint): number {
    return this.write(Region.BAR0, offset, body({ u64: value }));
  }

  map(address: number, byteLength: number, fd?: number, { flags = MapFlag.READ | MapFlag.WRITE, offset = 0 } = {}): number {
    const content = body({ u32: 32 }, { u32: flags }, { u64: offset }, { u64: address }, { u64: byteLength });
    return this.request(Command.DMA_MAP, content, fd === undefined ? [] : [fd]).errno;
  }

  unmap(address: number, byteLength: number): number {
    return this.request(Command.DMA_UNMAP, body({ u32: 24 }, { u32: 0 }, { u64: address }, { u64: byteLength })).errno;
  }

  // ---- Live migration

  /** DEVICE_FEATURE MIG_DEVICE_STATE. @throws Error when it is refused */
  migrateTo(state: number): void {
    const { errno } = this.request(
      Command.DEVICE_FEATURE,
      body({ u32: 16 }, { u32: Feature.MIG_DEVICE_STATE | FeatureFlag.SET }, { u32: state }, { u32: 0 }),
    );
    if (errno !== 0) throw new Error(`state ${state} was refused with errno ${errno}`);
  }

  /** Stops the function and reads its state, in small pieces. */
  saveState(pieceBytes = 1000): Buffer {
    this.migrateTo(MigrationState.STOP_COPY);
    const pieces: Buffer[] = [];
    for (;;) {
      const { errno, body: answer } = this.request(Command.MIG_DATA_READ, body({ u32: 8 + pieceBytes }, { u32: pieceBytes }));
      if (errno !== 0) throw new Error(`reading the state failed with errno ${errno}`);
      pieces.push(answer.subarray(8));
      if (answer.length - 8 < pieceBytes) return Buffer.concat(pieces);
    }
  }

  /** Writes a state, and leaves the function stopped with it. */
  loadState(state: Buffer, pieceBytes = 1000): void {
    this.migrateTo(MigrationState.RESUMING);
    for (let at = 0; at < state.length; at += pieceBytes) {
      const piece = state.subarray(at, at + pieceBytes);
      const { errno } = this.request(Command.MIG_DATA_WRITE, body({ u32: 8 + piece.length }, { u32: piece.length }, piece));
      if (errno !== 0) throw new Error(`writing the state failed with errno ${errno}`);
    }
    this.migrateTo(MigrationState.STOP);
  }

  /** Memory space and bus mastering on. */
  enable(): void {
    this.write(Region.CONFIG, 4, Buffer.from([6, 0]));
  }

  close(): void {
    this.connection.close();
  }
}

export { closeFd, setField64 };

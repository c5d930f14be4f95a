/**
 * Mutated messages of the vfio-user protocol, sent to a served function as fast as it takes them. What has to hold: the process and the
 * other socket live on, and when the client is gone so is everything that it has sent.
 */
import { openSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { createEventfd } from '../../src/native/eventfd.js';
import { closeFd, createMemfd } from '../../src/native/libc.js';
import { Errno, Poll, Poller, SocketBuffer, socketPair } from '../../src/native/socket.js';
import { Prng } from '../../src/prng.js';
import { decodeRegister, doorbellOffset, FunctionState, MMIO_CAP0, Reg } from '../../src/spec/index.js';
import { Command, commandName, encodeVersion, Flag, MAX_MESSAGE } from '../../src/vfio-user/messages.js';
import { message } from '../serve/hostile.js';
import { ARENA_IOVA, DATA, Mini } from '../serve/mini.js';
import { body, connected, PROPOSED, RawClient } from '../serve/raw.js';
import { type Rig, startServer } from '../serve/rig.js';

/** The server has taken nothing for so long: it hangs. */
const HANG_MS = 20_000;
/** Between two looks at everything. */
const LOOK_EVERY = 50_000;
/** Bytes that are sent at once. */
const BATCH_BYTES = 32 * 1024;
const PAGE = 0x1000;
/** Kept for the report of a failure. */
const TAIL = 24;

export interface MessageReport {
  /** That were changed in some way; others were sent between them. */
  mutated: number;
  sent: number;
  connections: number;
  /** Replies by command and errno: `DMA_MAP/0`, `DMA_MAP/22`. */
  replies: Record<string, number>;
  /** The server's own requests that were answered. */
  dma: number;
}

export class MessageFuzzFailure extends Error {}

interface Template {
  readonly bytes: Buffer;
  readonly fds: readonly number[];
}

const INTERESTING = [0, 1, 2, 4, 7, 8, 16, 31, 32, 64, 255, 4095, 4096, 8192, 0xffff, 0x1_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];
const INTERESTING64 = [0n, 1n, 4096n, 2n ** 31n, 2n ** 32n, 2n ** 53n - 4096n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 4096n, 2n ** 64n - 1n];

/** One run over one server. */
export class MessageFuzz {
  readonly report: MessageReport = { mutated: 0, sent: 0, connections: 0, replies: {}, dma: 0 };
  private readonly random: Prng;
  private readonly rig: Rig;
  private readonly other: RawClient;
  private readonly device: Mini;
  private readonly capabilities: Record<number, bigint>;
  /** Of context 1, in BAR 2. */
  private readonly doorbell: number;
  private readonly templates: readonly Template[];
  private readonly odd: readonly number[];
  private readonly output = new SocketBuffer(2 << 20);
  private readonly input = new SocketBuffer(2 << 20);
  private readonly poller = new Poller(1);
  private readonly tail: string[] = [];
  private fd = -1;
  /** What has been received and not yet looked at. */
  private pending = Buffer.alloc(0);
  private batch: Buffer[] = [];
  private batchBytes = 0;

  private constructor(rig: Rig, seed: number) {
    this.random = new Prng(seed);
    this.rig = rig;
    this.other = new RawClient(rig.server.sockets[1]);
    this.other.enable();
    this.capabilities = { [Reg.CAP0]: this.other.register(Reg.CAP0), [Reg.CAP1]: this.other.register(Reg.CAP1) };
    this.doorbell = doorbellOffset(1, decodeRegister(MMIO_CAP0, this.capabilities[Reg.CAP0]).db_stride);
    this.device = new Mini({} as RawClient);
    const [a, b] = socketPair();
    this.odd = [
      createMemfd('sdxi-fuzz', PAGE),
      createMemfd('sdxi-fuzz', 64 * PAGE),
      createEventfd(),
      createEventfd(),
      openSync(tmpdir(), 'r'),
      openSync('/dev/null', 'r+'),
      openSync(process.execPath, 'r'),
      a,
      b,
    ];
    this.odd = [...this.odd, openSync(`/proc/self/fd/${this.odd[1]}`, 'r')];
    this.templates = this.session();
  }

  /** @throws MessageFuzzFailure with the last messages */
  static async run({ messages, seed }: { messages: number; seed: number }): Promise<MessageReport> {
    // Waits are short: a client that answers nothing is no news after the first time.
    const rig = await startServer({ functions: 2, config: { groupId: 9 }, limits: { dmaMs: 5, dmaBlockedMs: 2 } });
    const fuzz = new MessageFuzz(rig, seed);
    try {
      await fuzz.rounds(messages);
      return fuzz.report;
    } finally {
      fuzz.close();
      await rig.close();
    }
  }

  private close(): void {
    if (this.fd >= 0) closeFd(this.fd);
    this.other.close();
    this.device.close();
    for (const fd of this.odd) closeFd(fd);
  }

  private fail(why: string): never {
    const text = [why, ...this.rig.log.slice(-5), 'last messages:', ...this.tail].join('\n  ');
    throw new MessageFuzzFailure(text);
  }

  private async rounds(messages: number): Promise<void> {
    await this.look(); // the first client makes things that stay
    for (const deadline = performance.now() + HANG_MS; named() !== OWN_MAPPINGS && performance.now() < deadline; ) await pause();
    const before = left();
    while (this.report.mutated < messages) {
      const until = Math.min(messages, this.report.mutated + LOOK_EVERY);
      while (this.report.mutated < until) {
        this.step();
        if (this.report.sent % 512 === 0) await new Promise(setImmediate); // the server's log
      }
      this.disconnect();
      await this.look();
      for (const deadline = performance.now() + HANG_MS; more(before) !== ''; await pause()) {
        if (performance.now() > deadline) this.fail(`left behind: ${more(before)}`);
      }
    }
  }

  /** Everything is well: the other socket answers, a client that does everything right is served. */
  private async look(): Promise<void> {
    await new Promise(setImmediate);
    const dead = this.rig.log.find((line) => line.includes('has ended:'));
    if (dead !== undefined) this.fail(dead);
    this.rig.log.length = 0;
    try {
      this.other.register(0);
      const client = new RawClient(this.rig.server.sockets[0]);
      try {
        const { device } = this;
        (device as { client: RawClient }).client = client;
        device.grant();
        device.up();
        device.bytes.fill(0x3c, DATA, DATA + PAGE);
        device.bytes.fill(0, DATA + 2 * PAGE, DATA + 3 * PAGE);
        device.bytes.fill(0, 0x5000, 0x5010);
        device.copy(ARENA_IOVA + DATA, ARENA_IOVA + DATA + 2 * PAGE, PAGE);
        device.ring();
        device.until('a copy', () => device.done);
        if (device.failed || device.bytes[DATA + 2 * PAGE] !== 0x3c) this.fail('a copy of a client that does everything right failed');
      } finally {
        client.close();
      }
    } catch (error) {
      if (error instanceof MessageFuzzFailure) throw error;
      this.fail(`a client that does everything right is not served: ${(error as Error).message}`);
    }
  }

  // ---- messages

  /** A session in which everything is right: memory with and without files, interrupts, the function brought up, and all other commands. */
  private session(): Template[] {
    const one = (command: number, content: Uint8Array = new Uint8Array(0), fds: readonly number[] = [], flags = 0): Template => ({
      bytes: message({ id: 1, command, flags, body: content }),
      fds,
    });
    const { DMA_MAP, DMA_UNMAP, REGION_READ, REGION_WRITE, DEVICE_SET_IRQS, DEVICE_FEATURE } = Command;
    const map = (address: number, size: number, offset: number, fds: readonly number[], flags = 3) =>
      one(DMA_MAP, body({ u32: 32 }, { u32: flags }, { u64: offset }, { u64: address }, { u64: size }), fds);
    const unmap = (address: number, size: number) => one(DMA_UNMAP, body({ u32: 24 }, { u32: 0 }, { u64: address }, { u64: size }));
    const read = (region: number, offset: number, count: number) =>
      one(REGION_READ, body({ u64: offset }, { u32: region }, { u32: count }));
    const write = (region: number, offset: number, data: Uint8Array, flags = 0) =>
      one(REGION_WRITE, body({ u64: offset }, { u32: region }, { u32: data.length }, data), [], flags);
    const irqs = (flags: number, start: number, count: number, fds: readonly number[] = [], data: Uint8Array = new Uint8Array(0)) =>
      one(DEVICE_SET_IRQS, body({ u32: 20 + data.length }, { u32: flags }, { u32: 2 }, { u32: start }, { u32: count }, data), fds);
    const feature = (flags: number, data: Uint8Array = new Uint8Array(0), room = 64) =>
      one(DEVICE_FEATURE, body({ u32: 8 + Math.max(data.length, room) }, { u32: flags }, data));
    const state = (value: number) => feature(0x2_0002, body({ u32: value }, { u32: 0 }));
    const u64 = (value: number | bigint) => Buffer.from(new BigUint64Array([BigInt(value)]).buffer);
    const pages = this.odd[1];
    const events = this.odd.slice(2, 4);
    const bytes = this.device.bytes.length;
    const entry = (offset: number, region: number, count: number, value: number) =>
      body({ u64: offset }, { u32: region }, { u32: count }, { u64: value });
    return [
      one(Command.VERSION, encodeVersion(0, 0, PROPOSED)),
      map(ARENA_IOVA, bytes, 0, [this.device.fd]),
      map(ARENA_IOVA, bytes, 0, []),
      map(0, 8 * PAGE, 0, [pages], 7),
      map(0x10_0000, 8 * PAGE, 8 * PAGE, [pages], 11),
      map(0x20_0000, 4 * PAGE, 0, [], 1),
      map(0x30_0000, 4 * PAGE, 0, []),
      map(0x40_0000, PAGE, 0, [this.odd[0]], 2),
      one(Command.DEVICE_GET_INFO, body({ u32: 16 }, { u32: 0 }, { u64: 0 })),
      ...[0, 2, 4, 7].map((region) =>
        one(Command.DEVICE_GET_REGION_INFO, body({ u32: 64 }, { u32: 0 }, { u32: region }, { u32: 0 }, { u64: 0 }, { u64: 0 })),
      ),
      one(Command.DEVICE_GET_REGION_IO_FDS, body({ u32: 16 }, { u32: 0 }, { u32: 2 }, { u32: 0 })),
      one(Command.DEVICE_GET_IRQ_INFO, body({ u32: 16 }, { u32: 0 }, { u32: 2 }, { u32: 0 })),
      irqs(0x24, 0, 1, events.slice(0, 1)),
      irqs(0x24, 1, 2, events),
      irqs(0x22, 0, 3, [], Buffer.from([1, 0, 1])),
      irqs(0x21, 0, 0),
      irqs(0x09, 1, 1),
      irqs(0x11, 1, 1),
      read(7, 0, 256),
      read(0, 0, 8),
      read(0, 0x200, 8),
      read(4, 0, 64),
      write(7, 4, Buffer.from([6, 0])),
      write(7, 0x3c, Buffer.from([1]), Flag.NO_REPLY),
      write(4, 0, Buffer.from(new Uint32Array([0xfee0_0000, 0, 0x41, 0]).buffer)),
      // The function is brought up on the arena, or on memory that is reached by messages.
      ...this.up().map((content) => one(REGION_WRITE, content)),
      write(2, this.doorbell, u64(1), Flag.NO_REPLY),
      write(2, 0, u64(5), Flag.NO_REPLY),
      one(Command.REGION_WRITE_MULTI, body({ u64: 2 }, entry(0x3c, 7, 1, 3), entry(this.doorbell, 2, 8, 4)), [], Flag.NO_REPLY),
      one(Command.REGION_WRITE_MULTI, body({ u64: 1 }, entry(4, 7, 2, 6))),
      one(Command.DEVICE_RESET),
      feature(0x1_0001),
      feature(0x1_0002),
      feature(0x4_0006),
      feature(0x2_0006, body({ u64: 4096 }, { u32: 1 }, { u32: 0 }, { u64: ARENA_IOVA }, { u64: bytes })),
      feature(0x1_0008, body({ u64: ARENA_IOVA }, { u64: bytes }, { u64: 4096 }), 4096),
      feature(0x2_0007),
      ...[3, 1, 4, 1, 2, 2].map(state),
      one(Command.MIG_DATA_READ, body({ u32: 4104 }, { u32: 4096 })),
      one(Command.MIG_DATA_WRITE, body({ u32: 40 }, { u32: 32 }, Buffer.from('{"format":"sdxi-device/1","f":1}'))),
      unmap(0, 8 * PAGE),
      unmap(0x10_0000, 8 * PAGE),
      unmap(0x30_0000, 4 * PAGE),
      unmap(0x20_0000, 0x30_0000),
      // Answers that nobody asked for.
      one(Command.DMA_READ, body({ u64: 0 }, { u64: 8 }, u64(0)), [], Flag.REPLY),
      one(Command.DMA_WRITE, body({ u64: 0 }, { u64: 8 }), [], Flag.REPLY | Flag.ERROR),
    ];
  }

  /** What a driver writes to bring the function up on the arena. */
  private up(): Uint8Array[] {
    const written: Uint8Array[] = [];
    const recorder = {
      request: () => ({ errno: 0 }),
      enable: () => {},
      register: (offset: number) => (offset === Reg.STS0 ? BigInt(FunctionState.ACTIVE) : this.capabilities[offset]),
      setRegister: (offset: number, value: bigint) => {
        written.push(body({ u64: offset }, { u32: 0 }, { u32: 8 }, { u64: value }));
        return 0;
      },
      serve: () => {},
    };
    (this.device as unknown as { client: unknown }).client = recorder;
    this.device.up();
    return written;
  }

  private chance(oneIn: number): boolean {
    return this.random.below(oneIn) === 0;
  }

  private pick<T>(list: readonly T[]): T {
    return list[this.random.below(list.length)];
  }

  /** The next message: of the session in its order or at random, changed more often than not. */
  private step(): void {
    if (this.fd < 0) this.connect();
    const { random } = this;
    const at = this.chance(3) ? this.report.sent % this.templates.length : random.below(this.templates.length);
    const template = this.templates[at];
    let bytes = Buffer.from(template.bytes);
    let fds = template.fds;
    let changed = false;
    if (!this.chance(4)) {
      changed = true;
      for (let n = 1 + random.below(3); n > 0; n--) {
        if (this.chance(8)) fds = Array.from({ length: this.chance(20) ? 16 : random.below(4) }, () => this.pick(this.odd));
        else bytes = this.mutate(bytes);
      }
    }
    if (bytes.readUInt16LE(2) === Command.DMA_MAP && fds.length === 0 && bytes.length >= 48) {
      // Memory without a file in any amount: views of it take their time, which others can use better.
      if (bytes.readUInt32LE(44) < 0x20_0000 && bytes.readUInt32LE(44) > 0) bytes.writeUInt32LE(0, 44);
      if (bytes.readUInt32LE(44) === 0 && bytes.readUInt32LE(40) > 0x1000_0000) bytes.writeUInt32LE(PAGE, 40);
    }
    this.report.sent++;
    if (changed) this.report.mutated++;
    this.tail.push(`${commandName(bytes.readUInt16LE(2))} ${bytes.subarray(0, 96).toString('hex')} ${fds.length} fds`);
    if (this.tail.length > TAIL) this.tail.shift();
    if (this.chance(2000)) {
      // It vanishes in the middle of a message.
      this.put(bytes.subarray(0, random.below(bytes.length)), fds);
      this.disconnect();
      return;
    }
    if (this.chance(2000)) {
      bytes.writeUInt32LE(this.chance(2) ? random.next() : random.below(2 * MAX_MESSAGE), 4);
      this.put(bytes, fds);
      for (let n = random.below(8); n > 0; n--) this.put(this.pick(this.templates).bytes, []);
      this.disconnect();
      return;
    }
    this.put(bytes, fds);
  }

  private mutate(bytes: Buffer<ArrayBuffer>): Buffer<ArrayBuffer> {
    const { random } = this;
    const content = bytes.length - 16;
    const resized = (length: number) => {
      const other = Buffer.alloc(16 + length);
      bytes.copy(other);
      other.writeUInt32LE(other.length, 4);
      return other;
    };
    switch (random.below(content > 0 ? 10 : 4)) {
      case 0:
        bytes.writeUInt16LE(this.chance(8) ? random.next() & 0xffff : random.below(20), 2);
        return bytes;
      case 1:
        bytes.writeUInt32LE(this.pick([0, 0, 0x10, 0x10, 1, 0x21, 2, random.next()]), 8);
        return bytes;
      case 2:
        return resized(content + 1 + random.below(64));
      case 3:
        return resized(random.below(content + 1));
      case 4:
      case 5:
        for (let n = 1 + random.below(3); n > 0; n--) bytes[16 + random.below(content)] ^= 1 << random.below(8);
        return bytes;
      case 6:
        if (content >= 8) bytes.writeBigUInt64LE(this.pick(INTERESTING64), 16 + 8 * random.below(Math.floor(content / 8)));
        return bytes;
      default:
        if (content >= 4) {
          const value = this.chance(4) ? random.next() : this.chance(2) ? random.below(32) : this.pick(INTERESTING);
          bytes.writeUInt32LE(value, 16 + 4 * random.below(Math.floor(content / 4)));
        }
        return bytes;
    }
  }

  // ---- the connection

  private connect(): void {
    this.fd = connected(this.rig.server.sockets[0]);
    this.report.connections++;
    this.pending = Buffer.alloc(0);
    if (!this.chance(50)) this.put(this.templates[0].bytes, []);
    if (this.chance(2)) this.prologue();
  }

  /** A function that works: on memory with a file, or on memory that it has to ask for. */
  private prologue(): void {
    const { device, random } = this;
    const writes = this.up();
    for (let i = 0; i < 200; i++) {
      const place = () => (this.chance(20) ? 0x30_0000 : ARENA_IOVA + DATA) + random.below(0x8_0000);
      device.copy(place(), place(), 1 + random.below(this.chance(10) ? 0x1_0000 : 256));
    }
    const [, withFile, without] = this.templates;
    this.put(this.byCommand(Command.DEVICE_RESET), []);
    const arena = this.chance(2) ? withFile : without;
    this.put(arena.bytes, arena.fds);
    const enable = message({ command: Command.REGION_WRITE, body: body({ u64: 4 }, { u32: 7 }, { u32: 2 }, Buffer.from([6, 0])) });
    this.put(enable, []);
    for (const content of writes) this.put(message({ command: Command.REGION_WRITE, body: content }), []);
    const ring = body({ u64: this.doorbell }, { u32: 2 }, { u32: 8 }, { u64: 200 });
    this.put(message({ command: Command.REGION_WRITE, flags: Flag.NO_REPLY, body: ring }), []);
    this.flush();
    // What it asks for is answered for a while.
    for (let look = random.below(30); look > 0 && this.fd >= 0; look--) {
      this.poller.set([this.fd, Poll.IN]);
      if (this.poller.wait(1) > 0) this.receive();
    }
  }

  private byCommand(command: number): Buffer {
    return this.templates.find(({ bytes }) => bytes.readUInt16LE(2) === command)?.bytes ?? Buffer.alloc(0);
  }

  private disconnect(): void {
    this.flush();
    if (this.fd >= 0) closeFd(this.fd);
    this.fd = -1;
    this.batch = [];
    this.batchBytes = 0;
  }

  private put(bytes: Buffer, fds: readonly number[]): void {
    if (fds.length > 0) {
      this.flush();
      if (this.fd >= 0) this.send(bytes, fds);
      return;
    }
    this.batch.push(bytes);
    this.batchBytes += bytes.length;
    if (this.batchBytes >= BATCH_BYTES) this.flush();
  }

  private flush(): void {
    if (this.batchBytes === 0) return;
    const bytes = Buffer.concat(this.batch);
    this.batch = [];
    this.batchBytes = 0;
    if (this.fd >= 0) this.send(bytes, []);
  }

  private send(bytes: Buffer, fds: readonly number[]): void {
    const { output, poller } = this;
    const deadline = performance.now() + HANG_MS;
    output.bytes.set(bytes);
    for (let at = 0; at < bytes.length; ) {
      if (!this.receive()) return;
      const sent = output.send(this.fd, at, bytes.length - at, at === 0 ? fds : []);
      if (sent > 0) {
        at += sent;
        continue;
      }
      if (sent !== -Errno.EAGAIN) {
        this.lost();
        return;
      }
      if (performance.now() > deadline) this.fail('the server takes nothing any more');
      poller.set([this.fd, Poll.IN | Poll.OUT]);
      poller.wait(100);
    }
    this.receive();
  }

  private lost(): void {
    if (this.fd >= 0) closeFd(this.fd);
    this.fd = -1;
  }

  /** Takes what is there. @returns false when the connection has ended */
  private receive(): boolean {
    const { input } = this;
    for (;;) {
      const count = input.receive(this.fd, 0, input.bytes.length);
      for (const fd of input.fds) closeFd(fd);
      if (count === -Errno.EAGAIN) return true;
      if (count <= 0) {
        this.lost();
        return false;
      }
      this.pending = Buffer.concat([this.pending, input.bytes.subarray(0, count)]);
      this.parse();
    }
  }

  private parse(): void {
    let at = 0;
    const { pending } = this;
    while (pending.length - at >= 16) {
      const size = pending.readUInt32LE(at + 4);
      if (size < 16 || size > MAX_MESSAGE) this.fail(`the server sent a message of ${size} bytes`);
      if (pending.length - at < size) break;
      this.took(pending.subarray(at, at + size));
      at += size;
    }
    this.pending = pending.subarray(at);
  }

  private took(received: Buffer): void {
    const command = received.readUInt16LE(2);
    const flags = received.readUInt32LE(8);
    if ((flags & Flag.TYPE) === Flag.REPLY) {
      const name = commandName(command);
      const key = `${name.startsWith('command') ? 'others' : name}/${(flags & Flag.ERROR) !== 0 ? received.readUInt32LE(12) : 0}`;
      this.report.replies[key] = (this.report.replies[key] ?? 0) + 1;
      return;
    }
    if (this.chance(500)) return; // it is left waiting
    const { random } = this;
    const count = Number(received.readBigUInt64LE(24));
    const data = command === Command.DMA_READ ? Buffer.alloc(count, random.below(256)) : Buffer.alloc(0);
    let answer = Buffer.from(
      message({ id: received.readUInt16LE(0), command, flags: Flag.REPLY, body: Buffer.concat([received.subarray(16, 32), data]) }),
    );
    if (this.chance(8)) answer = this.mutate(answer);
    this.report.dma++;
    // Without waiting: whoever waits for room here while the server waits for an answer waits for ever.
    this.output.bytes.set(answer, 1 << 20);
    this.output.send(this.fd, 1 << 20, answer.length);
  }
}

/** The arena, which this end has mapped. */
const OWN_MAPPINGS = 1;
const named = (): number =>
  readFileSync('/proc/self/maps', 'utf8')
    .split('\n')
    .filter((line) => line.includes('sdxi-fuzz') || line.includes('sdxi-mini')).length;

/** What is open and mapped, by kind. */
function left(): Map<string, number> {
  const kinds = new Map<string, number>([['mappings', named()]]);
  for (const fd of readdirSync('/proc/self/fd')) {
    try {
      const kind = readlinkSync(`/proc/self/fd/${fd}`).replace(/\d+/g, '');
      kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
    } catch {
      // the one that lists them
    }
  }
  return kinds;
}

/** What there is more of than there was. Fewer are none of ours: the process may collect what earlier tests have forgotten. */
const more = (before: ReadonlyMap<string, number>): string =>
  [...left()]
    .filter(([kind, count]) => count > (before.get(kind) ?? 0))
    .map(([kind, count]) => `${count} ${kind} where there was ${before.get(kind) ?? 0}`)
    .join(', ');

const pause = () => new Promise((resolve) => setTimeout(resolve, 5));

/** What a long run has to have seen: every command succeed and fail. */
export function shallow({ replies, dma }: MessageReport): string[] {
  const never = Object.entries(Command)
    .filter(([name]) => name !== 'DMA_READ' && name !== 'DMA_WRITE')
    .flatMap(([name]) => [
      ...(replies[`${name}/0`] ? [] : [`${name} never succeeded`]),
      ...(Object.keys(replies).some((key) => key.startsWith(`${name}/`) && key !== `${name}/0`) ? [] : [`${name} never failed`]),
    ]);
  return dma > 0 ? never : [...never, 'the server never asked for memory'];
}

/** What a client may do with the server's own requests, DMA_READ and DMA_WRITE. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createEventfd } from '../../src/native/eventfd.js';
import { closeFd } from '../../src/native/libc.js';
import { socketPair } from '../../src/native/socket.js';
import { SERVE_LIMITS } from '../../src/serve/limits.js';
import { Session } from '../../src/serve/session.js';
import { ContextState } from '../../src/spec/index.js';
import { Connection } from '../../src/vfio-user/connection.js';
import { Command, encodeVersion, Flag, field64 } from '../../src/vfio-user/messages.js';
import { message, openFiles, until, Wire } from './hostile.js';
import { ARENA_IOVA, DATA, Mini } from './mini.js';
import { body, PROPOSED, RawClient } from './raw.js';
import { type Rig, startServer } from './rig.js';

const PAGE = 0x1000;
const FROM = ARENA_IOVA + DATA;
const TO = ARENA_IOVA + DATA + 0x4_0000;

let rig: Rig;
let minis: Mini[] = [];
afterEach(async () => {
  await rig.close();
  for (const mini of minis) mini.close();
  minis = [];
});

/** A function whose client grants memory without a file. */
async function begin(limits: Partial<typeof SERVE_LIMITS> = {}): Promise<{ client: RawClient; device: Mini }> {
  rig = await startServer({ limits: { logLines: 10_000, ...limits } });
  const client = rig.connect();
  const device = new Mini(client);
  minis.push(device);
  device.grant({ byMessages: true });
  device.up();
  return { client, device };
}

/** Answers as a client does that is asked for `count` bytes at `address`; undefined: not at all. */
type Answerer = (asked: { id: number; command: number; address: number; count: number; data: Buffer }, right: Buffer) => Buffer | undefined;

/** Lets the function copy, and answers what concerns the data with `answerer`, everything else as it should be. */
function copyWith(client: RawClient, device: Mini, answerer: Answerer, meanwhile = (_wire: Wire) => {}): void {
  const size = 64;
  device.bytes.fill(0x11, DATA, DATA + size);
  device.bytes.fill(0, DATA + 0x4_0000, DATA + 0x4_0000 + size);
  const serve = client as unknown as { serveDma(): void };
  const usual = serve.serveDma.bind(client);
  const wire = new Wire(client.connection.fd);
  serve.serveDma = () => {
    const { id, command, view } = client.connection;
    const [address, count] = [field64(view, 0), field64(view, 8)];
    if (address < FROM) {
      usual();
      return;
    }
    const data = Buffer.from(client.connection.body.slice(16));
    if (command === Command.DMA_WRITE) device.at(address, count)?.set(data);
    const right = message({
      id,
      command,
      flags: Flag.REPLY,
      body: body(
        { u64: address },
        { u64: count },
        command === Command.DMA_READ ? (device.at(address, count) ?? new Uint8Array(0)) : new Uint8Array(0),
      ),
    });
    const answer = answerer({ id, command, address, count, data }, right);
    if (answer) wire.send(answer);
  };
  device.copy(FROM, TO, size);
  device.ring();
  device.until('the end of the copy', () => {
    meanwhile(wire);
    return device.done || device.state !== ContextState.RUN;
  });
  serve.serveDma = usual;
}

const says = (what: RegExp) => until(`the log says ${what}`, () => rig.log.some((line) => what.test(line)));
const changed = (at: number, value: number) => (right: Buffer) => {
  const wrong = Buffer.from(right);
  wrong.writeUInt32LE(value, at);
  return wrong;
};
const header = (right: Buffer, flags: number, error = 0) => {
  const wrong = Buffer.from(right.subarray(0, 16));
  wrong.writeUInt32LE(16, 4);
  wrong.writeUInt32LE(flags, 8);
  wrong.writeUInt32LE(error, 12);
  return wrong;
};

describe.each([Command.DMA_READ, Command.DMA_WRITE])('an answer to command %i', (command) => {
  const wrong =
    (make: (right: Buffer) => Buffer): Answerer =>
    (asked, right) =>
      asked.command === command ? make(right) : right;

  it.each<[string, (right: Buffer) => Buffer, RegExp]>([
    ['with an error', (right) => header(right, Flag.REPLY | Flag.ERROR, 14), /failed with errno 14/],
    ['with an error of no number', (right) => header(right, Flag.REPLY | Flag.ERROR, 0), /failed with errno 0/],
    ['without a body', (right) => header(right, Flag.REPLY), /failed with a reply to something else/],
    ['for another address', changed(16, 0x7777), /failed with a reply to something else/],
    ['for an address from 2^53 on', changed(20, 0xffff_ffff), /failed with a reply to something else/],
    ['for fewer bytes', changed(24, 32), /failed with 32 bytes/],
    ['for no bytes', changed(24, 0), /failed with 0 bytes/],
    ['for more bytes', changed(24, 65), /failed with 65 bytes/],
  ])('%s fails the descriptor and nothing else', async (_name, make, what) => {
    const { client, device } = await begin();
    copyWith(client, device, wrong(make));
    expect(device.done && !device.failed).toBe(false);
    await says(what);
    expect(client.register(0)).toBeDefined();
    // And the next one works.
    device.up();
    copyWith(client, device, (_asked, right) => right);
    expect([device.done, device.failed]).toEqual([true, false]);
    expect(device.bytes.subarray(DATA + 0x4_0000, DATA + 0x4_0000 + 64).every((byte) => byte === 0x11)).toBe(true);
  });

  it('under another number, or of another command, is passed over; the right one counts', async () => {
    const { client, device } = await begin();
    copyWith(
      client,
      device,
      wrong((right) => {
        const [id, of] = [Buffer.from(right), Buffer.from(right)];
        id.writeUInt16LE(right.readUInt16LE(0) ^ 0x8000, 0);
        of.writeUInt16LE(command ^ 7, 2);
        return Buffer.concat([id, of, right]);
      }),
    );
    expect([device.done, device.failed]).toEqual([true, false]);
    await says(/nobody waits for/);
  });

  it('that never comes counts as refused when time is up, and comes to nothing later', async () => {
    const { client, device } = await begin({ dmaMs: 50 });
    const late: Buffer[] = [];
    copyWith(client, device, (asked, right) => {
      if (asked.command !== command) return right;
      late.push(right);
      return undefined;
    });
    expect(device.done && !device.failed).toBe(false);
    await says(/was not answered; the access counts as refused/);
    const wire = new Wire(client.connection.fd);
    for (const one of late) wire.send(one);
    expect(client.register(0)).toBeDefined();
    await says(/nobody waits for/);
  });
});

it('an answer with less or more data than it says is none', async () => {
  const { client, device } = await begin();
  for (const by of [-1, 1, -64]) {
    copyWith(client, device, ({ command }, right) => {
      if (command !== Command.DMA_READ) return right;
      const wrong = by < 0 ? Buffer.from(right.subarray(0, right.length + by)) : Buffer.concat([right, Buffer.alloc(by)]);
      wrong.writeUInt32LE(wrong.length, 4);
      return wrong;
    });
    expect(device.done && !device.failed).toBe(false);
    device.up();
  }
  await says(/failed with a reply of \d+ bytes/);
});

describe('a step', () => {
  it('waits no longer for many slow answers than for one', async () => {
    const { client, device } = await begin({ dmaMs: 600 });
    let late: { answer: Buffer; due: number } | undefined;
    // Each answer comes in time, both together do not.
    copyWith(
      client,
      device,
      (_asked, answer) => {
        late = { answer, due: performance.now() + 400 };
        return undefined;
      },
      (wire) => {
        if (late === undefined || performance.now() < late.due) return;
        wire.send(late.answer);
        late = undefined;
      },
    );
    expect(device.failed || !device.done).toBe(true);
    await says(/was not answered/);
    expect(client.register(0)).toBeDefined();
  });

  it('does not wait for a client that waits itself', async () => {
    const { client, device } = await begin({ dmaMs: 600_000, dmaBlockedMs: 20 });
    client.memory = undefined;
    client.dma.length = 0;
    device.copy(FROM, TO, 64);
    device.ring();
    device.until('a DMA_READ', () => client.dma.length > 0);
    // Registers are answered meanwhile, without an end to the wait; what changes memory has to wait for the end of the step.
    expect(client.register(0)).toBeDefined();
    expect(client.unmap(0x7000_0000, PAGE)).toBe(2);
    await says(/was not answered/);
  });

  it('ends with the server, whoever it waits for', async () => {
    const { client, device } = await begin({ dmaMs: 600_000 });
    client.memory = undefined;
    client.dma.length = 0;
    device.copy(FROM, TO, 64);
    device.ring();
    device.until('a DMA_READ', () => client.dma.length > 0);
    await rig.server.close();
  });

  it('of a function in a group does not hold up those who take memory back', async () => {
    rig = await startServer({ functions: 2, config: { groupId: 3 }, limits: { dmaMs: 600_000, dmaBlockedMs: 50, logLines: 10_000 } });
    const slow = rig.connect();
    const device = new Mini(slow);
    minis.push(device);
    device.grant({ byMessages: true });
    device.up();
    const other = new RawClient(rig.server.sockets[1]);
    expect(other.map(0x10_0000, PAGE, device.fd)).toBe(0);
    slow.memory = undefined;
    slow.dma.length = 0;
    device.copy(FROM, TO, 64);
    device.ring();
    device.until('a DMA_READ', () => slow.dma.length > 0);
    expect(other.unmap(0x10_0000, PAGE)).toBe(0);
    other.close();
  });
});

describe('a session', () => {
  let ends: [number, number];
  let wake: number;
  beforeEach(() => {
    ends = socketPair();
    wake = createEventfd();
  });

  it('that sends what it owes before each answer does not go deeper with each command that comes meanwhile', async () => {
    rig = await startServer();
    let answered = 0;
    const session: Session = new Session(ends[0], {
      commands: {
        independent: () => true,
        perform: () => {
          answered++;
          return { bytes: 0 };
        },
        version: () => ({ reply: { bytes: 0 }, maxTransfer: 4096 }),
      } as never,
      beforeAnswer: () => session.post(0x1000, new Uint8Array(8)),
      log: () => {},
      wakeFd: wake,
      stopping: () => false,
      limits: { ...SERVE_LIMITS, dmaMs: 100 },
    });
    const client = new Connection(ends[1]);
    const wire = new Wire(ends[1]);
    wire.send(message({ command: Command.VERSION, body: encodeVersion(0, 0, PROPOSED) }));
    session.pump();
    // A list of posted writes that is full: the next one waits for an answer, and takes commands while it waits.
    for (let i = 0; i < 64; i++) session.post(0x1000, new Uint8Array(8));
    wire.send(Buffer.concat(new Array(6000).fill(message({ command: Command.DEVICE_GET_INFO, body: new Uint8Array(16) }))));
    expect(session.read(0x1000, new Uint8Array(8))).toBe(false);
    for (let round = 0; round < 200; round++) session.pump();
    expect(answered).toBe(6000);
    session.close();
    client.close();
    closeFd(wake);
  });

  it('keeps no more descriptors of commands that have to wait than it has room for', async () => {
    rig = await startServer({ limits: { dmaMs: 600_000, dmaBlockedMs: 2000 } });
    const client = rig.connect();
    const device = new Mini(client);
    minis.push(device);
    device.grant({ byMessages: true });
    device.up();
    client.memory = undefined;
    client.dma.length = 0;
    device.copy(FROM, TO, 64);
    device.ring();
    device.until('a DMA_READ', () => client.dma.length > 0);
    const before = openFiles();
    const wire = new Wire(client.connection.fd);
    const unmap = message({ id: 1, command: Command.DMA_UNMAP, body: body({ u32: 24 }, { u32: 0 }, { u64: 0x7000_0000 }, { u64: PAGE }) });
    wire.send(unmap);
    const set = message({
      id: 2,
      command: Command.DEVICE_SET_IRQS,
      body: body({ u32: 20 }, { u32: 0x24 }, { u32: 2 }, { u32: 0 }, { u32: 1 }),
    });
    expect(() => {
      for (let i = 0; i < 900; i++) wire.send(set, new Array(16).fill(device.fd), 200);
    }).not.toThrow('EMFILE');
    expect(openFiles() - before).toBeLessThan(300);
    for (const fd of ends) closeFd(fd);
    closeFd(wake);
  });
});

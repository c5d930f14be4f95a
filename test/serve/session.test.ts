/** A client that sends in pieces, stalls, does not read, or vanishes, at every point that there is. */
import { fstatSync, writeSync } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import { foreign } from '../../src/native/koffi.js';
import { closeFd } from '../../src/native/libc.js';
import { Command, encodeVersion, Flag, Region } from '../../src/vfio-user/messages.js';
import { mappings, message, Oddities, openFiles, until, Wire } from './hostile.js';
import { ARENA_IOVA, DATA, Mini } from './mini.js';
import { body, PROPOSED, RawClient } from './raw.js';
import { type Rig, startServer } from './rig.js';

const PAGE = 0x1000;
const libc = foreign<{ fcntl(fd: number, command: number, argument: number): number; shutdown(fd: number, how: number): number }>({
  fcntl: 'int fcntl(int, int, int)',
  shutdown: 'int shutdown(int, int)',
});

let rig: Rig;
const odd = new Oddities();
const minis: Mini[] = [];
afterEach(async () => {
  await rig.close();
  odd.close();
  for (const mini of minis.splice(0)) mini.close();
});

const start = async (options: Parameters<typeof startServer>[0] = {}) => {
  rig = await startServer({ limits: { logLines: 10_000 }, ...options });
};
function mini(client: RawClient, byteLength?: number): Mini {
  const one = new Mini(client, byteLength);
  minis.push(one);
  return one;
}

const version = message({ command: Command.VERSION, body: encodeVersion(0, 0, PROPOSED) });
const readRegister = (id = 1, offset = 0) =>
  message({ id, command: Command.REGION_READ, body: body({ u64: offset }, { u32: 0 }, { u32: 8 }) });
const mapOf = (id: number, address: number, size: number, offset = 0) =>
  message({ id, command: Command.DMA_MAP, body: body({ u32: 32 }, { u32: 3 }, { u64: offset }, { u64: address }, { u64: size }) });
const unmapOf = (id: number, address: number, size: number) =>
  message({ id, command: Command.DMA_UNMAP, body: body({ u32: 24 }, { u32: 0 }, { u64: address }, { u64: size }) });

interface Sent {
  readonly name: string;
  readonly bytes: Buffer;
  readonly fds?: () => number[];
}

/** A message of each kind that succeeds. */
function everyKind(): Sent[] {
  const memory = odd.memory(16 * PAGE);
  const set = (flags: number, count: number, data = new Uint8Array(0)) =>
    body({ u32: 20 + data.length }, { u32: flags }, { u32: 2 }, { u32: 0 }, { u32: count }, data);
  const one = (name: keyof typeof Command, content: Uint8Array, fds?: () => number[]): Sent => ({
    name,
    bytes: message({ id: 2, command: Command[name], body: content }),
    fds,
  });
  return [
    one('DMA_MAP', mapOf(2, 0x10_0000, PAGE).subarray(16), () => [memory]),
    one('DMA_UNMAP', unmapOf(2, 0x10_0000, PAGE).subarray(16)),
    one('DEVICE_GET_INFO', body({ u32: 16 }, { u32: 0 }, { u64: 0 })),
    one('DEVICE_GET_REGION_INFO', body({ u32: 32 }, { u32: 0 }, { u32: 2 }, { u32: 0 }, { u64: 0 }, { u64: 0 })),
    one('DEVICE_GET_REGION_IO_FDS', body({ u32: 16 }, { u32: 0 }, { u32: 2 }, { u32: 0 })),
    one('DEVICE_GET_IRQ_INFO', body({ u32: 16 }, { u32: 0 }, { u32: 2 }, { u32: 0 })),
    one('DEVICE_SET_IRQS', set(0x24, 2), () => [odd.event(), odd.event()]),
    one('REGION_READ', readRegister().subarray(16)),
    one('REGION_WRITE', body({ u64: 4 }, { u32: 7 }, { u32: 2 }, Buffer.from([6, 0]))),
    one('REGION_WRITE_MULTI', body({ u64: 1 }, { u64: 4 }, { u32: 7 }, { u32: 2 }, { u64: 6 })),
    one('DEVICE_RESET', new Uint8Array(0)),
    one('DEVICE_FEATURE', body({ u32: 16 }, { u32: 0x1_0002 })),
  ];
}

describe('framing', () => {
  it('a session that comes byte by byte is answered as one that comes at once', async () => {
    await start();
    const kinds = everyKind();
    const run = async (send: (wire: Wire, bytes: Buffer, fds: number[]) => void) => {
      const wire = new Wire(rig.path);
      const answers: string[] = [];
      send(wire, version, []);
      answers.push(JSON.stringify(wire.next()));
      for (const { bytes, fds } of kinds) {
        send(wire, bytes, fds?.() ?? []);
        const answer = wire.next();
        expect(answer?.flags).toBe(Flag.REPLY);
        answers.push(JSON.stringify(answer));
      }
      const count = rig.log.filter((line) => line.includes('the client is gone')).length;
      wire.close();
      await until('the client is gone', () => rig.log.filter((line) => line.includes('the client is gone')).length > count);
      return answers;
    };
    const whole = await run((wire, bytes, fds) => wire.send(bytes, fds));
    const bytewise = await run((wire, bytes, fds) => {
      for (let i = 0; i < bytes.length; i++) wire.send(bytes.subarray(i, i + 1), i === 0 ? fds : []);
    });
    expect(bytewise).toEqual(whole);
  });

  it('a message in two pieces is the same wherever it is cut', async () => {
    await start();
    const client = rig.connect();
    const wire = new Wire(client.connection.fd);
    const memory = odd.memory(PAGE);
    const whole = mapOf(0, 0x10_0000, PAGE);
    for (let cut = 1; cut < whole.length; cut++) {
      whole.writeUInt16LE(1000 + cut, 0);
      wire.send(whole.subarray(0, cut), [memory]);
      if (cut % 2 === 0) client.connection.receive(); // a moment
      wire.send(whole.subarray(cut));
      expect(client.answer(1000 + cut)).toMatchObject({ errno: 0, fds: [] });
      expect(client.unmap(0x10_0000, PAGE)).toBe(0);
    }
  });

  it('descriptors belong to the message that their write begins with', async () => {
    await start();
    const client = rig.connect();
    const wire = new Wire(client.connection.fd);
    const [small, large] = [odd.memory(PAGE), odd.memory(2 * PAGE)];
    const files = openFiles();
    // The two files cannot be mistaken for each other: one is too small for the first map, the other's second page is not in the first.
    wire.send(Buffer.concat([readRegister(500), readRegister(501)]));
    wire.send(Buffer.concat([mapOf(502, 0x10_0000, 2 * PAGE), readRegister(503)]), [large]);
    wire.send(Buffer.concat([mapOf(504, 0x20_0000, PAGE), readRegister(505)]), [small]);
    wire.send(mapOf(506, 0x30_0000, PAGE, PAGE), [large]);
    wire.send(mapOf(507, 0x40_0000, 2 * PAGE), [small]);
    const errnos = [500, 501, 502, 503, 504, 505, 506, 507].map((id) => client.answer(id).errno);
    expect(errnos).toEqual([0, 0, 0, 0, 0, 0, 0, 22]);
    await until('descriptors are closed', () => openFiles() === files);
  });

  it('more replies than fit the socket come in order', async () => {
    await start();
    const client = rig.connect();
    const wire = new Wire(client.connection.fd);
    const count = 3000;
    wire.send(
      Buffer.concat(
        Array.from({ length: count }, (_, i) =>
          message({ id: i + 1, command: Command.REGION_READ, body: body({ u64: 0 }, { u32: 7 }, { u32: 1024 }) }),
        ),
      ),
    );
    for (let i = 0; i < count; i++) expect(client.answer(i + 1).body).toHaveLength(1040);
  });
});

describe('a client that stalls', () => {
  it('in the middle of a message, at every byte, stops neither the function nor another socket', { timeout: 60_000 }, async () => {
    await start({ functions: 2, config: { groupId: 5 } });
    const client = rig.connect();
    const bytes = mapOf(0, 0x8000_0000, PAGE);
    const copies = mini(client);
    copies.grant();
    copies.up();
    const other = new RawClient(rig.server.sockets[1]);
    const wire = new Wire(client.connection.fd);
    for (let cut = 1; cut < bytes.length; cut++) {
      for (let i = 0; i < 4; i++) copies.copy(ARENA_IOVA + DATA, ARENA_IOVA + DATA + 0x4_0000, 0x4_0000);
      copies.ring();
      bytes.writeUInt16LE(2000 + cut, 0);
      wire.send(bytes.subarray(0, cut), [copies.fd]);
      await until('the function goes on', () => copies.done);
      expect(other.register(0)).toBeDefined();
      wire.send(bytes.subarray(cut));
      expect(client.answer(2000 + cut).errno).toBe(0);
      expect(client.unmap(0x8000_0000, PAGE)).toBe(0);
    }
    expect(copies.failed).toBe(false);
    other.close();
  });

  it('and never reads its replies is no longer listened to, until it reads', async () => {
    await start();
    const client = rig.connect();
    const wire = new Wire(client.connection.fd);
    const request = message({ id: 9, command: Command.REGION_READ, body: body({ u64: 0 }, { u32: 7 }, { u32: 4096 }) });
    let sent = 0;
    const flood = () => {
      for (;;) {
        wire.send(request, [], 500);
        sent++;
      }
    };
    expect(flood).toThrow('the server takes nothing');
    // What waits is bounded: by what the server keeps, and by what the sockets hold.
    expect(sent * 4112).toBeLessThan(64 << 20);
    for (let i = 0; i < sent; i++) expect(client.answer(9).body).toHaveLength(4112);
    expect(client.register(0)).toBeDefined();
  });

  it('in the middle of a DMA_READ floods nobody: what it does not read is not answered', async () => {
    await start({ limits: { dmaMs: 60_000, logLines: 1000 } });
    const client = rig.connect();
    const device = mini(client);
    device.grant({ byMessages: true });
    device.up();
    device.copy(ARENA_IOVA + DATA, ARENA_IOVA + DATA + PAGE, 64);
    client.memory = undefined;
    device.ring();
    client.serve(() => client.dma.some(({ command, address }) => command === Command.DMA_READ && address < ARENA_IOVA + DATA));
    const wire = new Wire(client.connection.fd);
    const request = message({ id: 9, command: Command.REGION_READ, body: body({ u64: 0 }, { u32: 7 }, { u32: 4096 }) });
    let sent = 0;
    expect(() => {
      for (; sent < 20_000; sent++) wire.send(request, [], 500);
    }).toThrow('the server takes nothing');
    expect(sent * 4112).toBeLessThan(64 << 20);
  });
});

describe('a client that vanishes', () => {
  it('after any byte of any message leaves nothing behind', { timeout: 60_000 }, async () => {
    await start();
    rig.connect().close();
    await until('the first is gone', () => rig.log.some((line) => line.includes('the client is gone')));
    odd.close();
    const before = { files: openFiles(), maps: mappings('sdxi-') };
    const kinds = everyKind();
    for (const { bytes, fds } of kinds) {
      for (let length = 0; length <= bytes.length; length++) {
        const wire = new Wire(rig.path);
        const sent = fds?.() ?? [];
        wire.send(version);
        if (length > 0) wire.send(bytes.subarray(0, length), sent);
        wire.close();
      }
      const next = rig.connect();
      expect(next.register(0)).toBeDefined();
      next.close();
    }
    for (let length = 0; length < version.length; length++) {
      const wire = new Wire(rig.path);
      wire.send(version.subarray(0, length));
      wire.close();
    }
    const last = rig.connect();
    expect(last.register(0)).toBeDefined();
    expect(rig.log.filter((line) => line.includes('turned away'))).toEqual([]);
    odd.close();
    last.close();
    await until('all is as before', () => mappings('sdxi-') === before.maps && openFiles() === before.files);
  });

  it('in the middle of an answer to DMA_READ, at every byte', { timeout: 60_000 }, async () => {
    await start();
    for (let length = 0; length <= 48; length++) {
      const client = rig.connect();
      const device = new Mini(client);
      device.grant({ byMessages: true });
      device.up();
      client.memory = undefined;
      client.dma.length = 0;
      device.copy(ARENA_IOVA + DATA, ARENA_IOVA + DATA + PAGE, 64);
      device.ring();
      device.until('a DMA_READ', () => client.dma.length > 0);
      const [{ command, address, count }] = client.dma;
      const answer = message({
        id: client.connection.id,
        command,
        flags: Flag.REPLY,
        body: body({ u64: address }, { u64: count }, new Uint8Array(count)),
      });
      new Wire(client.connection.fd).send(answer.subarray(0, length));
      client.close();
      device.close();
    }
    const client = rig.connect();
    const device = mini(client);
    device.grant();
    device.up();
    device.copy(ARENA_IOVA + DATA, ARENA_IOVA + DATA + PAGE, 64);
    device.ring();
    device.until('a copy', () => device.done);
    expect(device.failed).toBe(false);
  });

  it('in the middle of copies, again and again: its memory is unmapped, and the next one finds the function as it was', async () => {
    await start();
    let registers = '';
    for (let round = 0; round < 20; round++) {
      const client = rig.connect();
      const device = new Mini(client, 8 << 20);
      device.grant();
      device.up();
      registers = client.read(Region.BAR0, 0, 0x200).toString('hex');
      for (let i = 0; i < 500; i++) device.copy(ARENA_IOVA + DATA, ARENA_IOVA + (4 << 20), 3 << 20);
      device.ring();
      device.until('some of it', () => device.readIndex > round);
      expect(device.done).toBe(false);
      client.close();
      await until('its memory is gone', () => mappings('sdxi-mini') === 1);
      device.close();
      // The state of the device is retained: "the device state should otherwise be retained".
      const next = rig.connect();
      expect(next.read(Region.CONFIG, 4, 1)[0]).toBe(6);
      expect(next.read(Region.BAR0, 0, 0x200).toString('hex')).toBe(registers);
      expect(next.unmap(ARENA_IOVA, 8 << 20)).toBe(2);
      next.close();
    }
  });
});

describe('clients one after another', () => {
  it('a second one is turned away, and is served when the first is gone', async () => {
    await start();
    const first = rig.connect();
    const second = new Wire(rig.path);
    second.send(version);
    expect(second.next()).toBeUndefined();
    second.close();
    await until('a line in the log', () => rig.log.some((line) => line.includes('turned away')));
    expect(first.register(0)).toBeDefined();
    first.close();
    expect(rig.connect().register(0)).toBeDefined();
  });

  it('a second one is turned away while the function is busy', async () => {
    await start();
    const client = rig.connect();
    const device = mini(client, 8 << 20);
    device.grant();
    device.up();
    const keepBusy = () => {
      while (device.readIndex + 200 > claimed) {
        device.copy(ARENA_IOVA + DATA, ARENA_IOVA + (4 << 20), 3 << 20);
        claimed++;
      }
      device.ring();
    };
    let claimed = 0;
    keepBusy();
    device.until('a copy', () => device.readIndex > 0);
    const second = new Wire(rig.path);
    second.send(version);
    let ended = false;
    for (let look = 0; look < 400 && !ended; look++) {
      keepBusy();
      try {
        ended = second.next(10) === undefined;
      } catch {
        // nothing yet
      }
    }
    expect(ended).toBe(true);
    expect(device.done).toBe(false);
    second.close();
  });

  it('interrupts and memory end with a client, and the doorbells that it mapped are not those of the next', async () => {
    await start({ mapDoorbells: true });
    const doorbells = (client: RawClient) => {
      const { fds } = client.request(
        Command.DEVICE_GET_REGION_INFO,
        body({ u32: 64 }, { u32: 0 }, { u32: 2 }, { u32: 0 }, { u64: 0 }, { u64: 0 }),
      );
      const { ino } = fstatSync(fds[0]);
      for (const fd of fds) closeFd(fd);
      return ino;
    };
    const first = rig.connect();
    const inode = doorbells(first);
    const files = openFiles();
    expect(first.map(0x10_0000, PAGE, odd.memory(PAGE))).toBe(0);
    expect(
      first.request(Command.DEVICE_SET_IRQS, body({ u32: 20 }, { u32: 0x24 }, { u32: 2 }, { u32: 0 }, { u32: 1 }), [odd.event()]).errno,
    ).toBe(0);
    await until('an eventfd of the server', () => openFiles() === files + 3);
    first.close();
    await until('all is closed', () => openFiles() === files);
    const second = rig.connect();
    expect(doorbells(second)).not.toBe(inode);
    expect(second.unmap(0x10_0000, PAGE)).toBe(2);
  });

  it('writes that nobody waits for are made in order, and before whatever is answered later', async () => {
    await start();
    const client = rig.connect();
    for (let i = 0; i < 1000; i++) {
      client.write(Region.CONFIG, 0x3c, Buffer.from([i & 0xff]), { posted: true });
      if (i % 100 === 99) expect(client.read(Region.CONFIG, 0x3c, 1)[0]).toBe(i & 0xff);
    }
    const one = (value: number) => body({ u64: 0x3c }, { u32: 7 }, { u32: 1 }, { u64: value });
    client.write(Region.CONFIG, 0x3c, Buffer.from([1]), { posted: true });
    client.send(Command.REGION_WRITE_MULTI, body({ u64: 2 }, one(2), one(3)), [], Flag.COMMAND | Flag.NO_REPLY);
    expect(client.read(Region.CONFIG, 0x3c, 1)[0]).toBe(3);
  });

  it('one that says no more but still listens is served to the end of what it sent', async () => {
    await start();
    const wire = new Wire(rig.path);
    wire.send(Buffer.concat([version, readRegister(5)]));
    libc.shutdown(wire.fd, 1);
    expect(wire.next()?.command).toBe(Command.VERSION);
    expect(wire.next()?.id).toBe(5);
    expect(wire.next()).toBeUndefined();
    wire.close();
    expect(rig.connect().register(0)).toBeDefined();
  });
});

describe('a client that says no more, and does not read', () => {
  it('costs nothing until it goes, and then all of its replies are there', async () => {
    await start();
    const wire = new Wire(rig.path);
    const reads = 400;
    const large = (id: number) =>
      message({ id, command: Command.REGION_READ, body: body({ u64: 0 }, { u32: Region.BAR0 }, { u32: 0x8000 }) });
    wire.send(Buffer.concat([version, ...Array.from({ length: reads }, (_, i) => large(i + 1))]));
    libc.shutdown(wire.fd, 1);
    await new Promise((resolve) => setTimeout(resolve, 100));
    const before = process.cpuUsage();
    await new Promise((resolve) => setTimeout(resolve, 500));
    const { user, system } = process.cpuUsage(before);
    expect((user + system) / 1000).toBeLessThan(250);
    expect(wire.next()?.command).toBe(Command.VERSION);
    for (let id = 1; id <= reads; id++) expect(wire.next()?.id).toBe(id);
    expect(wire.next()).toBeUndefined();
    wire.close();
    expect(rig.connect().register(0)).toBeDefined();
  });
});

describe('an eventfd', () => {
  it('that is full and would make its writer wait stops nobody', async () => {
    await start();
    const client = rig.connect();
    const event = odd.event();
    expect(
      client.request(Command.DEVICE_SET_IRQS, body({ u32: 20 }, { u32: 0x24 }, { u32: 2 }, { u32: 0 }, { u32: 1 }), [event]).errno,
    ).toBe(0);
    writeSync(event, Buffer.from(new BigUint64Array([2n ** 64n - 2n]).buffer));
    libc.fcntl(event, 4, 2); // F_SETFL: blocking again
    for (let i = 0; i < 3; i++) {
      expect(client.request(Command.DEVICE_SET_IRQS, body({ u32: 20 }, { u32: 0x21 }, { u32: 2 }, { u32: 0 }, { u32: 1 })).errno).toBe(0);
    }
    expect(client.register(0)).toBeDefined();
  });
});

describe('a thread that ends by itself', () => {
  it('leaves no socket at which clients would wait for ever', async () => {
    await start({ functions: 2 });
    const server = rig.server as unknown as { places: { worker: { terminate(): Promise<number> } }[] };
    await server.places[0].worker.terminate();
    await until('its socket is gone', () => {
      try {
        new Wire(rig.server.sockets[0]).close();
        return false;
      } catch {
        return true;
      }
    });
    const other = new Wire(rig.server.sockets[1]);
    other.send(version);
    expect(other.next()?.flags).toBe(Flag.REPLY);
    other.close();
  });
});

/**
 * Every command of the vfio-user protocol, right and wrong. What is wrong gets the errno that the protocol document names (EINVAL where it
 * names none and nothing else fits better), changes nothing, leaves a line in the log and no descriptor, and the connection goes on.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { closeFd } from '../../src/native/libc.js';
import { Errno } from '../../src/native/socket.js';
import { Reg } from '../../src/spec/index.js';
import { Command, encodeVersion, Flag, MAX_DATA_XFER, MAX_MESSAGE, MapFlag, Region } from '../../src/vfio-user/messages.js';
import { message, Oddities, openFiles, sendMany, until, Wire } from './hostile.js';
import { body, PROPOSED, type RawClient } from './raw.js';
import { type Rig, startServer } from './rig.js';

const BASE = 0x10_0000;
const BYTES = 0x1_0000;
const PAGE = 0x1000;
/** The server closes what it does not keep after its answer. */
const filesAre = (count: number) => until(`${count} open files`, () => openFiles() === count);
const bytes = (text: string) => new Uint8Array(Buffer.from(text));
const { EINVAL, EEXIST, ENOENT, EACCES, ENOMEM, ENOTTY } = Errno;

interface Case {
  readonly name: string;
  readonly body: () => Uint8Array;
  readonly fds?: () => number[];
  readonly errno: number;
  /** What the log says. */
  readonly says: RegExp;
}

let rig: Rig;
let client: RawClient;
let odd: Oddities;
let memory = 0;

async function begin(options: Parameters<typeof startServer>[0] = {}): Promise<void> {
  rig = await startServer({ limits: { logLines: 10_000 }, ...options });
  odd = new Oddities();
  memory = odd.memory(BYTES);
  client = rig.connect();
  expect(client.map(BASE, BYTES, memory)).toBe(0);
  client.enable();
}

async function end(): Promise<void> {
  await rig.close();
  odd.close();
}

const mapBody = ({ argsz = 32, flags = 3, offset = 0, address = 0x80_0000, size = PAGE }: Partial<Record<string, number | bigint>> = {}) =>
  body({ u32: Number(argsz) }, { u32: Number(flags) }, { u64: offset }, { u64: address }, { u64: size });
const unmapBody = ({ argsz = 24, flags = 0, address = BASE, size = BYTES }: Partial<Record<string, number | bigint>> = {}) =>
  body({ u32: Number(argsz) }, { u32: Number(flags) }, { u64: address }, { u64: size });
const infoBody = (argsz: number, ...rest: number[]) => body({ u32: argsz }, ...rest.map((u32) => ({ u32 })));
const accessBody = (offset: number | bigint, region: number, count: number, data = new Uint8Array(0)) =>
  body({ u64: offset }, { u32: region }, { u32: count }, data);
const irqBody = ({ argsz, flags = 0x24, index = 2, start = 0, count = 1, data = new Uint8Array(0) }: Partial<IrqFields> = {}) =>
  body({ u32: argsz ?? 20 + data.length }, { u32: flags }, { u32: index }, { u32: start }, { u32: count }, data);
interface IrqFields {
  argsz: number;
  flags: number;
  index: number;
  start: number;
  count: number;
  data: Uint8Array;
}
const featureBody = (argsz: number, flags: number, data: Uint8Array = new Uint8Array(0)) => body({ u32: argsz }, { u32: flags }, data);

/** Everything of the device that a client can see, and where its memory is. */
function observe(): unknown {
  const regions = [Region.CONFIG, Region.BAR4].map((region) =>
    client.read(region, 0, region === Region.CONFIG ? 4096 : 256).toString('hex'),
  );
  const registers = client.read(Region.BAR0, 0, 0x200).toString('hex');
  const mapped = [BASE - PAGE, BASE, BASE + BYTES - PAGE, BASE + BYTES, 0x80_0000, 0x80_1000, 0].map((address) => {
    const errno = client.map(address, PAGE, memory);
    if (errno === 0) client.unmap(address, PAGE);
    return errno;
  });
  return { regions, registers, mapped, state: client.request(Command.DEVICE_FEATURE, featureBody(16, 0x1_0002)).body.toString('hex') };
}

function refusals(command: number, cases: readonly Case[]): void {
  it.each(cases)('refuses: $name', async ({ body: content, fds = () => [], errno, says }) => {
    const sent = fds();
    const before = { seen: observe(), files: openFiles() };
    rig.log.length = 0;
    const answer = client.request(command, content(), sent);
    expect(answer).toMatchObject({ errno, fds: [] });
    expect(answer.body).toHaveLength(0);
    expect(observe()).toEqual(before.seen);
    await filesAre(before.files);
    await until(`a line in the log that says ${says}`, () => rig.log.some((line) => says.test(line)));
  });

  it('refuses the same without an answer when none was asked for', () => {
    const before = observe();
    for (const { body: content, fds = () => [] } of cases.slice(0, 3)) client.send(command, content(), fds(), Flag.COMMAND | Flag.NO_REPLY);
    expect(observe()).toEqual(before);
  });
}

/** A truncated message of every length. */
const truncated = (whole: () => Uint8Array, lengths: readonly number[], says: RegExp, fds?: () => number[]): Case[] =>
  lengths.map((length) => ({ name: `${length} bytes of body`, body: () => whole().subarray(0, length), errno: EINVAL, says, fds }));

describe('VERSION', () => {
  beforeAll(() => begin());
  afterAll(end);

  const version = (content: Uint8Array) => {
    const wire = new Wire(rig.path);
    wire.send(message({ command: Command.VERSION, body: content }));
    const answer = wire.next();
    return { wire, answer };
  };

  it('is answered with no more than was proposed', async () => {
    client.close();
    for (const proposed of [{}, { max_msg_fds: 1 }, PROPOSED, { write_multiple: false }, { twin_socket: { supported: true } } as object]) {
      await until('the next client is taken', () => rig.log.some((line) => line.includes('client is gone')));
      rig.log.length = 0;
      const { wire, answer } = version(encodeVersion(0, 7, proposed));
      expect(answer?.flags).toBe(Flag.REPLY);
      expect(answer?.body.readUInt32LE(0)).toBe(0); // 0.0, whatever minor was proposed
      const said = JSON.parse(answer?.body.toString('utf8', 4, answer.body.length - 1) ?? '');
      expect(Object.keys(said.capabilities).filter((name) => !Object.hasOwn(proposed, name))).toEqual([]);
      expect(said.capabilities).not.toHaveProperty('twin_socket');
      wire.close();
    }
  });

  it.each([
    ['a major version that is not 0', encodeVersion(1, 0, {}), /speaks version 1/],
    ['no body', new Uint8Array(0), /cannot be read/],
    ['half a version', new Uint8Array(3), /cannot be read/],
    ['text that does not end', bytes('\0\0\0\0{}'), /cannot be read/],
    ['no JSON', bytes('\0\0\0\0{]\0'), /cannot be read/],
    ['an array', bytes('\0\0\0\0[]\0'), /cannot be read/],
    ['capabilities that are none', bytes('\0\0\0\0{"capabilities":3}\0'), /cannot be read/],
    ['a transfer size of 0', encodeVersion(0, 0, { max_data_xfer_size: 0 }), /max_data_xfer_size/],
    ['a number of maps that is none', bytes('\0\0\0\0{"capabilities":{"max_dma_maps":"many"}}\0'), /max_dma_maps/],
    ['arrays in arrays', bytes(`\0\0\0\0${'['.repeat(200_000)}\0`), /cannot be read/],
  ])('with %s is refused, and the connection closed', async (_name, content, says) => {
    await until('the next client is taken', () => rig.log.some((line) => line.includes('client is gone')));
    rig.log.length = 0;
    const files = openFiles();
    const { wire, answer } = version(content);
    expect(answer).toMatchObject({ flags: Flag.REPLY | Flag.ERROR, error: EINVAL });
    expect(wire.next()).toBeUndefined();
    wire.close();
    await until(`the log says ${says}`, () => rig.log.some((line) => says.test(line)));
    await filesAre(files);
  });

  it('without version data stands for the defaults', async () => {
    await until('the next client is taken', () => rig.log.some((line) => line.includes('client is gone')));
    rig.log.length = 0;
    const { wire, answer } = version(new Uint8Array(4));
    expect(answer?.body.toString('utf8', 4)).toBe('{"capabilities":{}}\0');
    wire.close();
  });

  it('is refused a second time, and the session goes on', async () => {
    await until('the next client is taken', () => rig.log.some((line) => line.includes('client is gone')));
    client = rig.connect();
    expect(client.request(Command.VERSION, encodeVersion(0, 0, PROPOSED)).errno).toBe(EINVAL);
    expect(client.register(0)).toBeDefined();
  });

  it('comes first: who begins with something else is turned away', async () => {
    client.close();
    await until('the client is gone', () => rig.log.filter((line) => line.includes('client is gone')).length >= 2);
    const wire = new Wire(rig.path);
    wire.send(message({ command: Command.DEVICE_GET_INFO, body: infoBody(16, 0, 0, 0) }));
    expect(wire.next()).toMatchObject({ flags: Flag.REPLY | Flag.ERROR, error: EINVAL });
    expect(wire.next()).toBeUndefined();
    wire.close();
    await until('a line in the log', () => rig.log.some((line) => line.includes('began with DEVICE_GET_INFO')));
  });
});

describe('DMA_MAP', () => {
  beforeAll(() => begin());
  afterAll(end);

  it('maps a file, the same file again elsewhere, and memory without one', async () => {
    const files = openFiles();
    expect(client.map(0x200_0000, PAGE, memory, { offset: PAGE })).toBe(0);
    expect(client.map(0x200_1000, PAGE, memory, { offset: PAGE, flags: MapFlag.READ | MapFlag.MMAP })).toBe(0);
    expect(client.map(0x200_2000, PAGE, memory, { flags: MapFlag.WRITE | MapFlag.FILE_IO })).toBe(0);
    expect(client.map(0x200_3000, PAGE)).toBe(0);
    expect(client.map(0x200_4000, PAGE, odd.readOnly(memory), { flags: MapFlag.READ })).toBe(0);
    await filesAre(files + 1); // that of this end
    expect(client.unmap(0x200_0000, 5 * PAGE)).toBe(0);
  });

  refusals(Command.DMA_MAP, [
    ...truncated(mapBody, [0, 4, 31], /it has \d+ bytes/, () => [memory]),
    { name: '33 bytes of body', body: () => body(mapBody(), new Uint8Array(1)), errno: EINVAL, says: /33 bytes/, fds: () => [memory] },
    { name: 'argsz that is too small', body: () => mapBody({ argsz: 31 }), errno: EINVAL, says: /argsz/, fds: () => [memory] },
    { name: 'an unknown flag', body: () => mapBody({ flags: 0x13 }), errno: EINVAL, says: /flags 0x13/, fds: () => [memory] },
    { name: 'the highest flag', body: () => mapBody({ flags: 0x8000_0003 }), errno: EINVAL, says: /flags/, fds: () => [memory] },
    { name: 'neither reading nor writing', body: () => mapBody({ flags: 0 }), errno: EINVAL, says: /neither/, fds: () => [memory] },
    { name: 'access by mmap without a file', body: () => mapBody({ flags: 7 }), errno: EINVAL, says: /needs a descriptor/ },
    { name: 'access by file I/O without a file', body: () => mapBody({ flags: 11 }), errno: EINVAL, says: /needs a descriptor/ },
    { name: 'no bytes', body: () => mapBody({ size: 0 }), errno: EINVAL, says: /no range/, fds: () => [memory] },
    { name: 'half a page', body: () => mapBody({ size: 0x800 }), errno: EINVAL, says: /whole pages/, fds: () => [memory] },
    {
      name: 'an address within a page',
      body: () => mapBody({ address: 0x80_0008 }),
      errno: EINVAL,
      says: /whole pages/,
      fds: () => [memory],
    },
    { name: 'an offset within a page', body: () => mapBody({ offset: 8 }), errno: EINVAL, says: /offset/, fds: () => [memory] },
    { name: 'an offset from 2^53 on', body: () => mapBody({ offset: 2n ** 53n }), errno: EINVAL, says: /offset/, fds: () => [memory] },
    { name: 'an address from 2^53 on', body: () => mapBody({ address: 2n ** 53n }), errno: EINVAL, says: /2\^53/, fds: () => [memory] },
  ]);
});

describe('DMA_MAP, of ranges and files', () => {
  let folder: string;
  beforeAll(async () => {
    await begin();
    folder = mkdtempSync(join(tmpdir(), 'sdxi-hostile-'));
    writeFileSync(join(folder, 'file'), new Uint8Array(BYTES));
    execFileSync('mkfifo', [join(folder, 'pipe')]);
  });
  afterAll(async () => {
    await end();
    rmSync(folder, { recursive: true });
  });

  const with1 = (name: string, fd: () => number, errno: number, says: RegExp, fields: Parameters<typeof mapBody>[0] = {}): Case => ({
    name,
    body: () => mapBody(fields),
    fds: () => [fd()],
    errno,
    says,
  });

  refusals(Command.DMA_MAP, [
    with1('a range that ends beyond 2^53', () => memory, EINVAL, /2\^53/, { address: 2n ** 53n - 0x1000n, size: 0x2000 }),
    with1('a range that wraps', () => memory, EINVAL, /2\^53/, { address: 2n ** 64n - 0x1000n, size: 0x2000 }),
    with1('a size of nearly 2^64', () => memory, EINVAL, /2\^53/, { size: 2n ** 64n - 0x1000n }),
    with1('what is mapped already', () => memory, EEXIST, /mapped already/, { address: BASE, size: BYTES }),
    with1('a page of what is mapped', () => memory, EEXIST, /mapped already/, { address: BASE + PAGE }),
    with1('the beginning of what is mapped', () => memory, EEXIST, /mapped already/, { address: BASE - PAGE, size: 2 * PAGE }),
    with1('the end of what is mapped', () => memory, EEXIST, /mapped already/, { address: BASE + BYTES - PAGE, size: 2 * PAGE }),
    with1('a file that is too small', () => odd.memory(PAGE), EINVAL, /has 4096 bytes, 8192 are needed/, { size: 2 * PAGE }),
    with1('bytes behind the end', () => odd.memory(PAGE), EINVAL, /8192 are needed/, { offset: PAGE }),
    with1('a file that can be made shorter', () => odd.file(join(folder, 'file'), 'r+'), EINVAL, /made shorter/),
    with1('memory for writing that is open for reading', () => odd.readOnly(memory), EACCES, /reading only/),
    with1('a pipe', () => odd.file(join(folder, 'pipe'), 'r+'), EINVAL, /no file/),
    with1('a socket', () => odd.socket(), EINVAL, /no file/),
    with1('a folder', () => odd.file(folder), EINVAL, /no file/),
    with1('an eventfd', () => odd.event(), EINVAL, /no file/),
    with1('/dev/zero', () => odd.file('/dev/zero', 'r+'), EINVAL, /no file/),
  ]);
});

describe('DMA_MAP, of too much', () => {
  beforeAll(() => begin());
  afterAll(end);

  refusals(Command.DMA_MAP, [
    { name: 'two descriptors', body: () => mapBody(), fds: () => [memory, memory], errno: EINVAL, says: /more than one/ },
    { name: '16 descriptors', body: () => mapBody(), fds: () => new Array(16).fill(memory), errno: EINVAL, says: /more than one/ },
    // 2^47 bytes are all that a process has.
    { name: 'more memory without a file than there are addresses', body: () => mapBody({ size: 2 ** 52 }), errno: ENOMEM, says: /memory/ },
  ]);

  it('a message with more descriptors than were agreed on is refused, and all of them are closed', async () => {
    const files = openFiles();
    const wire = message({ id: 9, command: Command.DMA_MAP, body: mapBody() });
    // Each byte of the header brings 16.
    const raw = new Wire(client.connection.fd);
    for (let i = 0; i < 16; i++) raw.send(wire.subarray(i, i + 1), new Array(16).fill(memory));
    raw.send(wire.subarray(16), []);
    expect(client.answer(9)).toMatchObject({ errno: EINVAL });
    await filesAre(files);
  });

  it('a write with more descriptors than can be taken is refused as well', async () => {
    const files = openFiles();
    sendMany(client.connection.fd, message({ id: 9, command: Command.DMA_MAP, body: mapBody() }), new Array(40).fill(memory));
    expect(client.answer(9)).toMatchObject({ errno: EINVAL });
    await filesAre(files);
  });

  it('a 65,536th map is refused; with one less there is room again', async () => {
    const pages = odd.memory(65_536 * PAGE);
    const at = 0x1_0000_0000;
    const ids: number[] = [];
    for (let i = 0; i < 65_534; i++) {
      ids.push(client.send(Command.DMA_MAP, mapBody({ address: at + i * 2 * PAGE, offset: i * PAGE }), [pages]));
      if (ids.length === 100) for (const id of ids.splice(0)) expect(client.answer(id).errno).toBe(0);
    }
    for (const id of ids) expect(client.answer(id).errno).toBe(0);
    expect(client.map(0x80_0000, PAGE, pages)).toBe(28); // ENOSPC
    await until('the log says so', () => rig.log.some((line) => line.includes('65535 mappings already')));
    expect(client.unmap(at, PAGE)).toBe(0);
    expect(client.map(0x80_0000, PAGE, pages)).toBe(0);
    expect(client.unmap(0, 2 ** 40)).toBe(0);
  });
});

describe('DMA_MAP with the option for files that can be made shorter', () => {
  afterEach(end);

  it('takes them', async () => {
    await begin({ allowShrinkableMemory: true });
    const folder = mkdtempSync(join(tmpdir(), 'sdxi-hostile-'));
    writeFileSync(join(folder, 'file'), new Uint8Array(BYTES));
    expect(client.map(0x80_0000, BYTES, odd.file(join(folder, 'file'), 'r+'))).toBe(0);
    expect(client.map(0x90_0000, BYTES, odd.file(join(folder, 'file'), 'r'))).toBe(EACCES);
    expect(client.unmap(0x80_0000, BYTES)).toBe(0);
    rmSync(folder, { recursive: true });
  });
});

describe('DMA_UNMAP', () => {
  beforeAll(() => begin());
  afterAll(end);

  it('takes back what was mapped, and answers with it', () => {
    expect(client.map(0x80_0000, PAGE, memory)).toBe(0);
    const content = unmapBody({ address: 0x80_0000, size: PAGE });
    expect(client.request(Command.DMA_UNMAP, content)).toMatchObject({ errno: 0, body: content });
    expect(client.unmap(0x80_0000, PAGE)).toBe(ENOENT);
  });

  it('takes back several at once', () => {
    for (let i = 0; i < 8; i++) expect(client.map(0x80_0000 + i * PAGE, PAGE, memory)).toBe(0);
    expect(client.unmap(0x80_0000, 16 * PAGE)).toBe(0);
    for (let i = 0; i < 8; i++) expect(client.unmap(0x80_0000 + i * PAGE, PAGE)).toBe(ENOENT);
  });

  refusals(Command.DMA_UNMAP, [
    ...truncated(unmapBody, [0, 8, 23], /too short/),
    { name: 'argsz that is too small', body: () => unmapBody({ argsz: 23 }), errno: EINVAL, says: /argsz/ },
    { name: 'a flag', body: () => unmapBody({ flags: 1 }), errno: EINVAL, says: /flags 0x1/ },
    { name: 'what was never mapped', body: () => unmapBody({ address: 0x80_0000 }), errno: ENOENT, says: /nothing is mapped/ },
    { name: 'no bytes', body: () => unmapBody({ size: 0 }), errno: EINVAL, says: /no range/ },
    { name: 'everything up to 2^64', body: () => unmapBody({ address: 0, size: 2n ** 64n - 1n }), errno: EINVAL, says: /no range/ },
    { name: 'an address from 2^53 on', body: () => unmapBody({ address: 2n ** 60n }), errno: EINVAL, says: /no range/ },
    { name: 'the first half of a mapping', body: () => unmapBody({ size: BYTES / 2 }), errno: EINVAL, says: /in two/ },
    { name: 'the second half', body: () => unmapBody({ address: BASE + BYTES / 2 }), errno: EINVAL, says: /in two/ },
    { name: 'the middle', body: () => unmapBody({ address: BASE + PAGE, size: PAGE }), errno: EINVAL, says: /in two/ },
    { name: 'all but the last byte', body: () => unmapBody({ size: BYTES - 1 }), errno: EINVAL, says: /in two/ },
    {
      name: 'descriptors that nobody asked for',
      body: () => unmapBody({ flags: 2 }),
      fds: () => [memory, memory],
      errno: EINVAL,
      says: /flags/,
    },
  ]);
});

describe('DEVICE_GET_INFO, DEVICE_GET_REGION_INFO, DEVICE_GET_REGION_IO_FDS, DEVICE_GET_IRQ_INFO', () => {
  beforeAll(() => begin({ mapDoorbells: true }));
  afterAll(end);

  it('tell what there is', () => {
    const info = client.request(Command.DEVICE_GET_INFO, infoBody(16, 0, 0, 0));
    expect([0, 4, 8, 12].map((at) => info.body.readUInt32LE(at))).toEqual([16, 3, 9, 5]);
    for (let region = 0; region < 9; region++) {
      const { errno, body: answer } = client.request(Command.DEVICE_GET_REGION_INFO, infoBody(32, 0, region, 0, 0, 0, 0, 0));
      expect(errno).toBe(0);
      expect(answer.readUInt32LE(8)).toBe(region);
      expect(answer.readBigUInt64LE(16) > 0n).toBe([0, 2, 4, 7].includes(region));
    }
    const fds = client.request(Command.DEVICE_GET_REGION_IO_FDS, infoBody(16, 0, 2, 0));
    expect([0, 4, 8, 12].map((at) => fds.body.readUInt32LE(at))).toEqual([16, 0, 2, 0]);
    const counts = [0, 1, 2, 3, 4].map((type) =>
      client.request(Command.DEVICE_GET_IRQ_INFO, infoBody(16, 0, type, 0)).body.readUInt32LE(12),
    );
    expect(counts).toEqual([0, 0, 10, 1, 1]);
  });

  it('a region that can be mapped in part says so when there is room, and comes with a descriptor then', () => {
    const small = client.request(Command.DEVICE_GET_REGION_INFO, infoBody(32, 0, 2, 0, 0, 0, 0, 0));
    expect(small.fds).toEqual([]);
    expect([0, 4, 12].map((at) => small.body.readUInt32LE(at))).toEqual([64, 15, 0]);
    expect(small.body).toHaveLength(32);
    const whole = client.request(Command.DEVICE_GET_REGION_INFO, infoBody(64, 0, 2, 0, 0, 0, 0, 0));
    expect(whole.fds).toHaveLength(1);
    for (const fd of whole.fds) closeFd(fd);
    expect([0, 4, 12, 32, 36, 40].map((at) => whole.body.readUInt32LE(at))).toEqual([64, 15, 32, 0x1_0001, 0, 1]);
    expect(whole.body.readBigUInt64LE(56)).toBe(whole.body.readBigUInt64LE(16));
  });

  describe('DEVICE_GET_INFO', () => {
    refusals(Command.DEVICE_GET_INFO, [
      ...truncated(() => infoBody(16, 0, 0, 0), [0, 4, 15], /too short|argsz/),
      { name: 'argsz that is too small', body: () => infoBody(15, 0, 0, 0), errno: EINVAL, says: /argsz/ },
    ]);
  });
  describe('DEVICE_GET_REGION_INFO', () => {
    refusals(Command.DEVICE_GET_REGION_INFO, [
      ...truncated(() => infoBody(32, 0, 0, 0, 0, 0, 0, 0), [0, 12, 31], /too short/),
      { name: 'argsz that is too small', body: () => infoBody(31, 0, 0, 0, 0, 0, 0, 0), errno: EINVAL, says: /argsz/ },
      { name: 'region 9', body: () => infoBody(32, 0, 9, 0, 0, 0, 0, 0), errno: EINVAL, says: /no region 9/ },
      { name: 'region 2^32 - 1', body: () => infoBody(32, 0, -1, 0, 0, 0, 0, 0), errno: EINVAL, says: /no region 4294967295/ },
    ]);
  });
  describe('DEVICE_GET_REGION_IO_FDS', () => {
    refusals(Command.DEVICE_GET_REGION_IO_FDS, [
      ...truncated(() => infoBody(16, 0, 0, 0), [0, 15], /argsz|too short/),
      { name: 'argsz that is too small', body: () => infoBody(8, 0, 0, 0), errno: EINVAL, says: /argsz/ },
      { name: 'flags', body: () => infoBody(16, 1, 0, 0), errno: EINVAL, says: /flags/ },
      { name: 'region 9', body: () => infoBody(16, 0, 9, 0), errno: EINVAL, says: /no region 9/ },
    ]);
  });
  describe('DEVICE_GET_IRQ_INFO', () => {
    refusals(Command.DEVICE_GET_IRQ_INFO, [
      ...truncated(() => infoBody(16, 0, 2, 0), [0, 15], /argsz|too short/),
      { name: 'argsz that is too small', body: () => infoBody(12, 0, 2, 0), errno: EINVAL, says: /argsz/ },
      { name: 'type 5', body: () => infoBody(16, 0, 5, 0), errno: EINVAL, says: /no interrupt type 5/ },
    ]);
  });
});

describe('DEVICE_SET_IRQS', () => {
  beforeAll(() => begin());
  afterAll(end);

  it('gives vectors their eventfds, triggers, takes them back, and closes each exactly once', async () => {
    const files = openFiles();
    const event = odd.event();
    expect(client.request(Command.DEVICE_SET_IRQS, irqBody({ start: 3 }), [event]).errno).toBe(0);
    await filesAre(files + 2);
    expect(client.request(Command.DEVICE_SET_IRQS, irqBody({ start: 3 }), [event]).errno).toBe(0); // in the place of the first
    await filesAre(files + 2);
    for (const flags of [0x21, 0x09, 0x11]) expect(client.request(Command.DEVICE_SET_IRQS, irqBody({ flags, start: 3 })).errno).toBe(0);
    expect(client.request(Command.DEVICE_SET_IRQS, irqBody({ flags: 0x22, count: 10, data: new Uint8Array(10).fill(1) })).errno).toBe(0);
    expect(client.request(Command.DEVICE_SET_IRQS, irqBody({ start: 3 })).errno).toBe(0); // none: taken back
    await filesAre(files + 1);
    expect(client.request(Command.DEVICE_SET_IRQS, irqBody({ count: 10 }), new Array(10).fill(event)).errno).toBe(0);
    await filesAre(files + 11);
    expect(client.request(Command.DEVICE_SET_IRQS, irqBody({ flags: 0x21, count: 0 })).errno).toBe(0);
    for (const index of [3, 4]) {
      expect(client.request(Command.DEVICE_SET_IRQS, irqBody({ index }), [event]).errno).toBe(0);
      expect(client.request(Command.DEVICE_SET_IRQS, irqBody({ index, flags: 0x21, count: 0 })).errno).toBe(0);
    }
    await filesAre(files + 1);
  });

  const set = (name: string, fields: Partial<IrqFields>, says: RegExp, fds?: () => number[]): Case => ({
    name,
    body: () => irqBody(fields),
    errno: EINVAL,
    says,
    fds,
  });
  refusals(Command.DEVICE_SET_IRQS, [
    ...truncated(irqBody, [0, 19], /too short/, () => [odd.event()]),
    set('argsz that is not the length', { argsz: 21 }, /argsz/),
    set('type 5', { index: 5 }, /no interrupt type/),
    set('INTx, which the function does not have', { index: 0 }, /of 0/, () => [odd.event()]),
    set('a vector behind the last', { start: 10 }, /of 10/, () => [odd.event()]),
    set('vectors that go beyond the last', { start: 9, count: 2 }, /of 10/, () => [odd.event(), odd.event()]),
    set('2^32 - 1 vectors from 1 on', { start: 1, count: -1 }, /of 10/),
    set('no data flag', { flags: 0x20 }, /flags/),
    set('two data flags', { flags: 0x25 }, /flags/),
    set('no action', { flags: 4 }, /flags/),
    set('two actions', { flags: 0x31 }, /flags/),
    set('an unknown flag', { flags: 0x64 }, /flags/),
    set('too little data', { flags: 0x22, count: 3, data: new Uint8Array(2) }, /2 bytes of data/),
    set('fewer eventfds than vectors', { count: 3 }, /2 descriptors for 3/, () => [odd.event(), odd.event()]),
    set('more eventfds than vectors', {}, /2 descriptors for 1/, () => [odd.event(), odd.event()]),
    set('eventfds for masking', { flags: 0x0c }, /masking/, () => [odd.event()]),
    set('memory in the place of an eventfd', {}, /no eventfd/, () => [memory]),
    set('a good and a bad one', { count: 2 }, /no eventfd/, () => [odd.event(), odd.socket()]),
    set('descriptors that come with the end of all interrupts', { flags: 0x21, count: 0 }, /without the flag/, () => [odd.event()]),
    set('a descriptor without its flag', { flags: 0x21 }, /without the flag/, () => [odd.event()]),
  ]);
});

describe('REGION_READ', () => {
  beforeAll(() => begin());
  afterAll(end);

  it('reads every region, to its last byte', () => {
    for (const [region, bytes] of [
      [Region.CONFIG, 4096],
      [Region.BAR4, 256],
    ]) {
      expect(client.read(region, 0, bytes)).toHaveLength(bytes);
      expect(client.read(region, bytes - 1, 1)).toHaveLength(1);
    }
    expect(client.request(Command.REGION_READ, accessBody(3, 0, 7)).body).toHaveLength(23);
  });

  refusals(Command.REGION_READ, [
    ...truncated(() => accessBody(0, 7, 4), [0, 8, 15], /bytes, not 16/),
    { name: 'a byte too many', body: () => accessBody(0, 7, 4, new Uint8Array(1)), errno: EINVAL, says: /17 bytes/ },
    { name: 'no bytes', body: () => accessBody(0, 7, 0), errno: EINVAL, says: /0 bytes/ },
    { name: 'bytes behind the end', body: () => accessBody(4096, 7, 1), errno: EINVAL, says: /which has 4096/ },
    { name: 'bytes that reach beyond it', body: () => accessBody(4090, 7, 8), errno: EINVAL, says: /which has 4096/ },
    { name: 'an offset from 2^53 on', body: () => accessBody(2n ** 64n - 1n, 7, 1), errno: EINVAL, says: /which has 4096/ },
    { name: '2^32 - 1 bytes', body: () => accessBody(0, 0, -1), errno: EINVAL, says: /4294967295 bytes/ },
    { name: 'a BAR that is not there', body: () => accessBody(0, 1, 4), errno: EINVAL, says: /no region 1/ },
    { name: 'the ROM, which is not there', body: () => accessBody(0, 6, 4), errno: EINVAL, says: /no region 6/ },
    { name: 'region 9', body: () => accessBody(0, 9, 4), errno: EINVAL, says: /no region 9/ },
    { name: 'region 2^32 - 1', body: () => accessBody(0, -1, 4), errno: EINVAL, says: /no region/ },
  ]);
});

describe('REGION_WRITE', () => {
  beforeAll(() => begin());
  afterAll(end);

  it('writes, and answers with what was written where', () => {
    const { errno, body: answer } = client.request(Command.REGION_WRITE, accessBody(0x3c, 7, 1, Buffer.from([7])));
    expect([errno, answer.toString('hex')]).toEqual([0, accessBody(0x3c, 7, 1).toString('hex')]);
    expect(client.read(Region.CONFIG, 0x3c, 1)[0]).toBe(7);
  });

  it('S-100: up to 8 bytes are one access, as aligned as it is; more are pieces of 8', () => {
    client.enable();
    const place = Reg.ERR_WRT;
    expect(client.write(0, place, Buffer.alloc(8, 0x11))).toBe(0);
    expect(client.write(0, place + 4, Buffer.alloc(8, 0x22))).toBe(0);
    expect(client.write(0, place + 2, Buffer.alloc(4, 0x33))).toBe(0);
    expect(client.write(0, place, Buffer.alloc(1, 0x44))).toBe(0);
    expect(client.register(place)).toBe(0x1111_1111_1111_1111n);
    expect(client.write(0, place + 4, Buffer.alloc(4, 0x55))).toBe(0);
    expect(client.register(place)).toBe(0x5555_5555_1111_1111n);
    const pieces = Buffer.concat([Buffer.alloc(8, 0x66), client.read(0, place + 8, 8)]);
    expect(client.write(0, place, pieces)).toBe(0);
    expect(client.read(0, place, 16)).toEqual(pieces);
    expect(client.read(0, place - 3, 7)).toEqual(Buffer.concat([client.read(0, place - 3, 3), Buffer.alloc(4, 0x66)]));
  });

  refusals(Command.REGION_WRITE, [
    ...truncated(() => accessBody(4, 7, 2, new Uint8Array(2)), [0, 15], /too short/),
    { name: 'less data than it says', body: () => accessBody(4, 7, 2, new Uint8Array(1)), errno: EINVAL, says: /17 bytes, not 18/ },
    { name: 'more data than it says', body: () => accessBody(4, 7, 1, new Uint8Array(2)), errno: EINVAL, says: /18 bytes, not 17/ },
    {
      name: '2^32 - 1 bytes, of which one comes',
      body: () => accessBody(4, 7, -1, new Uint8Array(1)),
      errno: EINVAL,
      says: /17 bytes, not/,
    },
    { name: 'no bytes', body: () => accessBody(4, 7, 0), errno: EINVAL, says: /0 bytes/ },
    { name: 'bytes that reach beyond the end', body: () => accessBody(4095, 7, 2, new Uint8Array(2)), errno: EINVAL, says: /has 4096/ },
    {
      name: 'a whole message for a small region',
      body: () => accessBody(0, 7, MAX_DATA_XFER, new Uint8Array(MAX_DATA_XFER)),
      errno: EINVAL,
      says: /has 4096/,
    },
    { name: 'an offset of 2^63', body: () => accessBody(2n ** 63n, 0, 8, new Uint8Array(8)), errno: EINVAL, says: /region 0/ },
    { name: 'a region that is not there', body: () => accessBody(0, 3, 2, new Uint8Array(2)), errno: EINVAL, says: /no region 3/ },
    { name: 'region 8', body: () => accessBody(0, 8, 2, new Uint8Array(2)), errno: EINVAL, says: /no region 8/ },
  ]);
});

describe('REGION_WRITE_MULTI', () => {
  beforeAll(() => begin());
  afterAll(end);

  const one = (offset: number | bigint, region: number, count: number, value = 0) =>
    body({ u64: offset }, { u32: region }, { u32: count }, { u64: value });
  const many = (count: number | bigint, ...writes: Uint8Array[]) => body({ u64: count }, ...writes);

  it('makes its writes in order', () => {
    const { errno, body: answer } = client.request(
      Command.REGION_WRITE_MULTI,
      many(3, one(0x3c, 7, 1, 1), one(0x3c, 7, 1, 9), one(4, 7, 2, 6)),
    );
    expect([errno, answer.readBigUInt64LE()]).toEqual([0, 3n]);
    expect(client.read(Region.CONFIG, 0x3c, 1)[0]).toBe(9);
    const most = Array.from({ length: 200 }, (_, i) => one(0x3c, 7, 1, i));
    expect(client.request(Command.REGION_WRITE_MULTI, many(200, ...most)).errno).toBe(0);
    expect(client.read(Region.CONFIG, 0x3c, 1)[0]).toBe(199);
  });

  const good = one(0x3c, 7, 1, 0x55);
  refusals(Command.REGION_WRITE_MULTI, [
    ...truncated(() => many(1, good), [0, 7], /too short/),
    ...truncated(() => many(1, good), [8, 31], /bytes for 1 writes/),
    { name: 'no writes', body: () => many(0), errno: EINVAL, says: /0 writes/ },
    { name: 'more writes than are possible', body: () => many(201, ...new Array(201).fill(good)), errno: EINVAL, says: /201 writes/ },
    { name: '2^64 - 1 writes', body: () => many(2n ** 64n - 1n, good), errno: EINVAL, says: /writes/ },
    { name: 'fewer writes than it says', body: () => many(2, good), errno: EINVAL, says: /for 2 writes/ },
    { name: 'more bytes than its writes have', body: () => many(1, good, new Uint8Array(1)), errno: EINVAL, says: /for 1 writes/ },
    { name: 'a good write and one of 9 bytes', body: () => many(2, good, one(0, 7, 9)), errno: EINVAL, says: /9 bytes/ },
    { name: 'a good write and one of 2^32 - 1 bytes', body: () => many(2, good, one(0, 7, -1)), errno: EINVAL, says: /4294967295 bytes/ },
    { name: 'a good write and one beyond the end', body: () => many(2, good, one(4096, 7, 1)), errno: EINVAL, says: /has 4096/ },
    { name: 'a good write and one of nothing', body: () => many(2, good, one(0, 7, 0)), errno: EINVAL, says: /0 bytes/ },
    { name: 'a good write and one to no region', body: () => many(2, good, one(0, 5, 1)), errno: EINVAL, says: /no region 5/ },
  ]);
});

describe('DEVICE_RESET', () => {
  beforeAll(() => begin());
  afterAll(end);

  it('resets the device; its client keeps memory and interrupts (S-122)', async () => {
    expect(client.request(Command.DEVICE_SET_IRQS, irqBody(), [odd.event()]).errno).toBe(0);
    const files = openFiles();
    client.write(Region.CONFIG, 0x3c, Buffer.from([5]));
    expect(client.request(Command.DEVICE_RESET).errno).toBe(0);
    expect(client.read(Region.CONFIG, 4, 2).readUInt16LE()).toBe(0);
    expect(client.map(BASE, PAGE, memory)).toBe(EEXIST);
    await filesAre(files);
    client.enable();
  });

  refusals(Command.DEVICE_RESET, [{ name: 'a body', body: () => new Uint8Array(4), errno: EINVAL, says: /no body/, fds: () => [memory] }]);
});

describe('DEVICE_FEATURE, MIG_DATA_READ and MIG_DATA_WRITE', () => {
  beforeAll(() => begin());
  afterAll(end);
  const GET = 0x1_0000;
  const SET = 0x2_0000;
  const PROBE = 0x4_0000;
  const feature = (argsz: number, flags: number, data?: Uint8Array) =>
    client.request(Command.DEVICE_FEATURE, featureBody(argsz, flags, data));

  it('the features of migration can be probed and read', () => {
    for (const flags of [1 | GET, 2 | GET, 2 | SET, 2 | GET | SET, 6 | SET, 7 | SET, 8 | GET, 1])
      expect(feature(8, flags | PROBE).errno).toBe(0);
    expect(feature(16, GET | 1).body.toString('hex')).toBe(body({ u32: 16 }, { u32: GET | 1 }, { u64: 1 }).toString('hex'));
    expect(feature(16, GET | 2).body.readUInt32LE(8)).toBe(2); // RUNNING
    // With less room only the size is told.
    expect(feature(8, GET | 1).body.toString('hex')).toBe(body({ u32: 16 }, { u32: GET | 1 }).toString('hex'));
  });

  it('pages are logged, reported and no longer logged', () => {
    expect(feature(24, SET | 6, body({ u64: 4096 }, { u32: 0 }, { u32: 0 })).errno).toBe(0);
    expect(feature(24, SET | 6, body({ u64: 4096 }, { u32: 0 }, { u32: 0 })).errno).toBe(Errno.EBUSY);
    const { errno, body: answer } = feature(40, GET | 8, body({ u64: BASE }, { u64: BYTES }, { u64: 4096 }));
    expect([errno, answer.length, answer.readBigUInt64LE(32)]).toEqual([0, 40, 0n]);
    const asked = feature(32, GET | 8, body({ u64: BASE }, { u64: BYTES }, { u64: 4096 }));
    expect([asked.errno, asked.body.length, asked.body.readUInt32LE(0)]).toEqual([0, 32, 40]);
    expect(feature(8, SET | 7).errno).toBe(0);
  });

  const start = (page: number | bigint, count: number, ...ranges: (number | bigint)[]) =>
    body({ u64: page }, { u32: count }, { u32: 0 }, ...ranges.map((u64) => ({ u64 })));
  const setLog = (data: Uint8Array, argsz = 8 + data.length) => featureBody(argsz, SET | 6, data);
  refusals(Command.DEVICE_FEATURE, [
    ...truncated(() => featureBody(16, GET | 1), [0, 7], /too short/),
    { name: 'argsz that is too small', body: () => featureBody(7, GET | 1), errno: EINVAL, says: /argsz/ },
    { name: 'an unknown flag', body: () => featureBody(16, 0x8_0000 | GET | 1), errno: EINVAL, says: /flags/ },
    { name: 'neither to get nor to set', body: () => featureBody(16, 1), errno: EINVAL, says: /neither/ },
    { name: 'to get and to set', body: () => featureBody(16, GET | SET | 2), errno: EINVAL, says: /or both/ },
    { name: 'feature 3', body: () => featureBody(16, GET | 3), errno: ENOTTY, says: /no feature 3/ },
    { name: 'to probe feature 0xffff', body: () => featureBody(16, GET | PROBE | 0xffff), errno: ENOTTY, says: /no feature 65535/ },
    { name: 'to set what can be read alone', body: () => featureBody(16, SET | 1), errno: ENOTTY, says: /cannot be set/ },
    { name: 'to probe that', body: () => featureBody(16, SET | GET | PROBE | 1), errno: ENOTTY, says: /cannot be set/ },
    {
      name: 'a report while nothing is logged',
      body: () => featureBody(64, GET | 8, body({ u64: 0 }, { u64: 4096 }, { u64: 4096 })),
      errno: EINVAL,
      says: /nothing is logged/,
    },
    { name: 'the end of a log that was not begun', body: () => featureBody(8, SET | 7), errno: EINVAL, says: /nothing is logged/ },
    { name: 'a log without its fields', body: () => setLog(new Uint8Array(15)), errno: EINVAL, says: /too short/ },
    { name: 'a log with fewer ranges than it says', body: () => setLog(start(4096, 2, 0, 4096)), errno: EINVAL, says: /2 ranges/ },
    { name: 'a log with 2^32 - 1 ranges', body: () => setLog(start(4096, -1, 0, 4096)), errno: EINVAL, says: /4294967295 ranges/ },
    { name: 'a log of a range of nothing', body: () => setLog(start(4096, 1, 0, 0)), errno: EINVAL, says: /range 0/ },
    { name: 'a log of a range from 2^53 on', body: () => setLog(start(4096, 1, 2n ** 53n, 4096)), errno: EINVAL, says: /range 0/ },
    { name: 'a log of a range that wraps', body: () => setLog(start(4096, 1, 4096, 2n ** 64n - 1n)), errno: EINVAL, says: /range 0/ },
    { name: 'a log whose answer there is no room for', body: () => setLog(start(4096, 0), 8), errno: EINVAL, says: /argsz/ },
  ]);
});

describe('MIG_DATA_READ and MIG_DATA_WRITE', () => {
  beforeAll(() => begin());
  afterAll(end);

  describe('a report', () => {
    const GET = 0x1_0000;
    beforeAll(() => {
      expect(client.request(Command.DEVICE_FEATURE, featureBody(24, 0x2_0006, body({ u64: 4096 }, { u32: 0 }, { u32: 0 }))).errno).toBe(0);
    });
    const report = (iova: number | bigint, length: number | bigint, page: number | bigint) =>
      featureBody(0x20_0000, GET | 8, body({ u64: iova }, { u64: length }, { u64: page }));
    refusals(Command.DEVICE_FEATURE, [
      { name: 'without its fields', body: () => report(0, 4096, 4096).subarray(0, 31), errno: EINVAL, says: /too short/ },
      { name: 'of nothing', body: () => report(0, 0, 4096), errno: EINVAL, says: /no range/ },
      { name: 'from 2^53 on', body: () => report(2n ** 53n, 4096, 4096), errno: EINVAL, says: /no range/ },
      { name: 'in pages that are no power of two', body: () => report(0, 8192, 4097), errno: EINVAL, says: /no range/ },
      { name: 'in pages of no bytes', body: () => report(0, 8192, 0), errno: EINVAL, says: /no range/ },
      { name: 'that does not fit a message', body: () => report(0, 2 ** 40, 4096), errno: EINVAL, says: /a bitmap of/ },
    ]);
  });
  describe('MIG_DATA_READ', () => {
    refusals(Command.MIG_DATA_READ, [
      ...truncated(() => infoBody(64, 56), [0, 7], /too short/),
      { name: 'without a state to read', body: () => infoBody(64, 56), errno: EINVAL, says: /no state is being read/ },
      { name: 'more than argsz has room for', body: () => infoBody(63, 56), errno: EINVAL, says: /argsz 63/ },
      { name: '2^32 - 1 bytes', body: () => infoBody(-1, -1), errno: EINVAL, says: /size 4294967295/ },
    ]);
  });
  describe('MIG_DATA_WRITE', () => {
    refusals(Command.MIG_DATA_WRITE, [
      ...truncated(() => infoBody(8, 0), [0, 7], /too short/),
      {
        name: 'without a state to write',
        body: () => body(infoBody(12, 4), new Uint8Array(4)),
        errno: EINVAL,
        says: /RESUMING comes first/,
      },
      { name: 'fewer bytes than it says', body: () => body(infoBody(12, 4), new Uint8Array(3)), errno: EINVAL, says: /3 bytes came/ },
    ]);
  });
});

describe('states of migration', () => {
  beforeAll(() => begin());
  afterAll(end);
  const [STOP, RUNNING, STOP_COPY, RESUMING] = [1, 2, 3, 4];
  const setBody = (state: number, argsz = 16) => featureBody(argsz, 0x2_0002, body({ u32: state }, { u32: 0 }));
  const go = (state: number) => client.request(Command.DEVICE_FEATURE, setBody(state)).errno;
  const state = () => client.request(Command.DEVICE_FEATURE, featureBody(16, 0x1_0002)).body.readUInt32LE(8);
  const put = (data: Uint8Array) => client.request(Command.MIG_DATA_WRITE, body(infoBody(8 + data.length, data.length), data)).errno;

  refusals(Command.DEVICE_FEATURE, [
    ...truncated(() => setBody(STOP), [8, 15], /too short/),
    { name: 'an answer that there is no room for', body: () => setBody(STOP, 15), errno: EINVAL, says: /argsz/ },
    ...[0, 5, 6, 7, 8, 0xffff_ffff].map((to) => ({
      name: `state ${to}`,
      body: () => setBody(to),
      errno: EINVAL,
      says: /there is no state/,
    })),
  ]);

  it('a state is read in pieces, and taken over again; one that is none leads to ERROR, from which only a reset leads away', async () => {
    expect([go(STOP_COPY), state()]).toEqual([0, STOP_COPY]);
    const pieces: Uint8Array[] = [];
    for (;;) {
      const { errno, body: answer } = client.request(Command.MIG_DATA_READ, infoBody(1008, 1000));
      expect([errno, answer.readUInt32LE(0)]).toEqual([0, answer.length]);
      pieces.push(answer.subarray(8));
      if (answer.readUInt32LE(4) < 1000) break;
    }
    expect([go(RESUMING), ...pieces.map(put), go(RUNNING), state()]).toEqual([0, ...pieces.map(() => 0), 0, RUNNING]);
    const whole = Buffer.concat(pieces);
    const wrong = [
      bytes(''),
      bytes('{'),
      bytes('null'),
      bytes('{"format":"sdxi-device/1"}'),
      whole.subarray(0, whole.length / 2),
      Buffer.concat([whole, whole]),
    ];
    for (const data of wrong) {
      expect([go(RESUMING), put(data), go(STOP), state(), go(RUNNING)]).toEqual([0, 0, EINVAL, 0, Errno.EIO]);
      expect([client.request(Command.DEVICE_RESET).errno, state()]).toEqual([0, RUNNING]);
    }
    client.enable();
    expect(client.read(Region.CONFIG, 4, 1)[0]).toBe(6);
  });

  it('a state without end is not kept', () => {
    expect(go(RESUMING)).toBe(0);
    const piece = new Uint8Array(1 << 20);
    const errnos = Array.from({ length: 66 }, () => put(piece));
    expect(errnos.filter((errno) => errno === 0)).toHaveLength(64);
    expect(errnos.at(-1)).toBe(28); // ENOSPC
    expect(client.request(Command.DEVICE_RESET).errno).toBe(0);
  });
});

describe('what a client does not send', () => {
  beforeAll(() => begin());
  afterAll(end);

  const nothing = (command: number): Case[] => [
    {
      name: `command ${command}`,
      body: () => accessBody(BASE, 0, 4),
      errno: EINVAL,
      says: /nothing that a client sends/,
      fds: () => [memory],
    },
  ];
  for (const command of [Command.DMA_READ, Command.DMA_WRITE, 0, 14, 19, 0xffff]) {
    describe(`command ${command}`, () => refusals(command, nothing(command)));
  }

  it('a reply that nobody waits for is passed over, with a line in the log', async () => {
    const before = { seen: observe(), files: openFiles() };
    rig.log.length = 0;
    for (const flags of [Flag.REPLY, Flag.REPLY | Flag.ERROR, 2, 0xf])
      client.send(Command.DMA_READ, accessBody(BASE, 0, 4), [memory], flags);
    expect(observe()).toEqual(before.seen);
    await filesAre(before.files);
    await until('a line in the log', () => rig.log.some((line) => line.includes('nobody waits for')));
  });
});

describe('a message of an impossible size', () => {
  afterEach(end);

  it.each([0, 1, 15, MAX_MESSAGE + 1, 2 ** 31, 2 ** 32 - 1])('%i is answered with EINVAL, and the connection closed', async (size) => {
    await begin();
    const files = openFiles();
    const raw = new Wire(client.connection.fd);
    raw.send(message({ id: 7, command: Command.DEVICE_GET_INFO, size, body: new Uint8Array(64) }), [memory, memory]);
    expect(client.answer(7).errno).toBe(EINVAL);
    expect(client.ended()).toBe(true);
    await until('a line in the log', () => rig.log.some((line) => line.includes(`a message of ${size} bytes`)));
    client.close();
    await filesAre(files - 2);
    expect(rig.connect().register(0)).toBeDefined();
  });

  it('the longest possible one is read to its end', async () => {
    await begin();
    expect(client.request(Command.DEVICE_GET_INFO, new Uint8Array(MAX_MESSAGE - 16)).errno).toBe(EINVAL);
    expect(client.register(0)).toBeDefined();
  });
});

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { type FailureJson, here, hereJson, sdxi, sdxiJson } from './run.js';

interface Dissection {
  kind: string;
  operation: string | null;
  fields: Record<string, number | string>;
  hex: string;
}

/** The golden descriptors stand in the test of spec/ as literals; this is the same list, read as text. */
const source = readFileSync(fileURLToPath(new URL('../spec/golden-descriptors.test.ts', import.meta.url)), 'utf8');
const GOLDEN = [...source.matchAll(/title: '(G\d+) [^']*',\s*operation: (?:'([^']*)'|null),\s*hex: '([0-9a-f]{128})'/g)].map(
  ([, name, operation, hex]) => ({ name, operation: operation ?? null, hex }),
);

const directory = mkdtempSync(join(tmpdir(), 'sdxi-decode-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** COPY of 4096 bytes from 0x1000 to 0x2000 without completion block. */
const G1 =
  '00030100ff0f00000000000000000000001000000000000000200000000000000000000000000000000000000000000000000000000000000100000000000000';

describe('sdxi decode', () => {
  it('the list of golden descriptors is complete', () => {
    expect(GOLDEN.map(({ name }) => name)).toEqual(Array.from({ length: 38 }, (_, i) => `G${i + 1}`));
  });

  it('G1 to G38 come back with hex equal to the input, and with their operations', async () => {
    const { code, json } = await sdxiJson<Dissection[]>(['decode', ...GOLDEN.map(({ hex }) => hex)]);
    expect(code).toBe(0);
    expect(json.map(({ hex }) => hex)).toEqual(GOLDEN.map(({ hex }) => hex));
    expect(json.map(({ operation }) => operation)).toEqual(GOLDEN.map(({ operation }) => operation));
    expect(json.every(({ kind, fields }) => kind === 'descriptor' && typeof fields === 'object')).toBe(true);
  });

  it('G1 to G38 come back from their JSON fields too (--encode)', async () => {
    const decoded = await sdxi(['decode', '--json', ...GOLDEN.map(({ hex }) => hex)]);
    const { code, stdout } = await sdxi(['decode', '--encode', '--file', '-'], { input: decoded.stdout });
    expect(code).toBe(0);
    expect(stdout.trim().split('\n')).toEqual(GOLDEN.map(({ hex }) => hex));
  });

  it('the JSON of one descriptor has exactly kind, operation, fields and hex', async () => {
    const { json } = await hereJson<Dissection[]>(['decode', G1]);
    expect(json).toEqual([
      {
        kind: 'descriptor',
        operation: 'COPY',
        fields: expect.objectContaining({ size: 4096, addr0: '0x1000', addr1: '0x2000', np: 1, vl: 0 }),
        hex: G1,
      },
    ]);
  });

  it('spaces are allowed, inside one argument and between several, and upper case', async () => {
    const spaced = G1.replace(/(.{8})/g, '$1 ')
      .trim()
      .toUpperCase();
    for (const args of [[spaced], spaced.split(' '), [`0x${G1}`]]) {
      const { code, json } = await hereJson<Dissection[]>(['decode', ...args]);
      expect([code, json.map(({ hex }) => hex)]).toEqual([0, [G1]]);
    }
  });

  it('reserved bits survive', async () => {
    const reserved = `${G1.slice(0, 64)}deadbeef${G1.slice(72)}`;
    const { json } = await hereJson<Dissection[]>(['decode', reserved]);
    expect(json[0].hex).toBe(reserved);
    expect(json[0].fields.reserved).toContain('deadbeef');
  });

  it('a file may hold text with comments, or the bytes themselves', async () => {
    const text = join(directory, 'ring.txt');
    writeFileSync(text, `# two descriptors\n${G1}\n${G1} # the second\n`);
    const bytes = join(directory, 'ring.bin');
    writeFileSync(bytes, Buffer.from(G1 + G1, 'hex'));
    for (const file of [text, bytes]) {
      const { code, json } = await hereJson<Dissection[]>(['decode', '--file', file]);
      expect([code, json.map(({ hex }) => hex)]).toEqual([0, [G1, G1]]);
    }
  });

  it('ref §13.2: a structure by its kind (--as)', async () => {
    const { json } = await hereJson<Dissection[]>(['decode', '--as', 'CXT_STS', '0100000000000000 0500000000000000']);
    expect(json).toEqual([
      {
        kind: 'cxt_sts',
        operation: null,
        fields: expect.objectContaining({ state: 1, read_index: '0x5' }),
        hex: '01000000000000000500000000000000',
      },
    ]);
  });

  it('ref §13.3: a register as a number, and as bytes in memory order', async () => {
    const number = await hereJson<Dissection[]>(['decode', '--as', 'MMIO_CAP0', '0x0000000816000801']);
    expect(number.json[0]).toMatchObject({ kind: 'cap0', fields: { sfunc: 0x801, max_rkey_sz: 8 }, hex: '0x0000000816000801' });
    const bytes = await hereJson<Dissection[]>(['decode', '--as', 'cap0', '0108001608000000']);
    expect(bytes.json[0]).toMatchObject({ fields: number.json[0].fields, hex: '0108001608000000' });
  });

  it('--encode builds a descriptor from an operation and fields', async () => {
    const { code, stdout } = await here(['decode', '--encode', '{"operation":"COPY","size":4096,"addr0":"0x1000","addr1":8192,"np":1}']);
    expect([code, stdout]).toEqual([0, `${G1}\n`]);
  });

  it('text for people names the operation and the fields', async () => {
    const { code, stdout } = await here(['decode', G1]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/COPY/);
    expect(stdout).toMatch(/size .*4096 .*bytes to copy/);
  });
});

describe('sdxi decode: bad input is usage, exit 2', () => {
  it.each([
    ['no bytes', ['decode'], 'no hexadecimal bytes given'],
    ['half a byte', ['decode', '123'], 'not hexadecimal'],
    ['no digits', ['decode', 'zz'], 'not hexadecimal'],
    ['too few bytes', ['decode', '00'.repeat(63)], '63 bytes given'],
    ['an unknown kind', ['decode', '--as', 'nonsense', '00'], 'unknown kind'],
    ['no JSON', ['decode', '--encode', 'nonsense'], 'no JSON'],
    ['an unknown field', ['decode', '--encode', '{"operation":"NOP","colour":1}'], 'no such field'],
    ['an unknown operation', ['decode', '--encode', '{"operation":"MOVE"}'], 'no operation MOVE'],
    ['a register too long', ['decode', '--as', 'cap0', '0x00000000000000001'], 'no register value'],
  ])('%s', async (_what, args, message) => {
    const { code, json, stderr } = await hereJson<FailureJson>(args);
    expect(code).toBe(2);
    expect(json.ok).toBe(false);
    expect(json.error.code).toMatch(/^ERR_SDXI_/);
    expect(json.error.hint).toBeTruthy();
    expect(stderr).toContain(message);
    expect(stderr).toContain('hint:');
  });

  it('a file that is not there is named', async () => {
    const { code, json } = await hereJson<FailureJson>(['decode', '--file', join(directory, 'missing')]);
    expect([code, json.error.code]).toEqual([2, 'ERR_SDXI_ARGUMENT']);
  });
});

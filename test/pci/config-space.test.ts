/** The registers of configuration space: what they are after reset, and what a write changes. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ConfigSpace, masksOf, register, ro, rw, rw1c } from '../../src/pci/config-space.js';
import { DEFAULT_IDENTITY } from '../../src/pci/identity.js';
import { capabilities, header } from '../../src/pci/index.js';
import { At, FLR, little, Rig, SHAPE } from './rig.js';

/** Name, offset, bytes, value after reset, bits that software can set. Written from the specification, not from the tables in src. */
const EXPECTED: [string, number, number, bigint, bigint][] = [
  ['VENDOR_ID', 0x00, 2, 0x1234n, 0n],
  ['DEVICE_ID', 0x02, 2, 0x5d71n, 0n],
  ['COMMAND', 0x04, 2, 0n, 0x0546n],
  ['STATUS', 0x06, 2, 0x0010n, 0n],
  ['REVISION_ID', 0x08, 1, 0n, 0n],
  ['CLASS_CODE', 0x09, 3, 0x120100n, 0n],
  ['CACHE_LINE_SIZE', 0x0c, 1, 0n, 0xffn],
  ['LATENCY_TIMER', 0x0d, 1, 0n, 0n],
  ['HEADER_TYPE', 0x0e, 1, 0n, 0n],
  ['BIST', 0x0f, 1, 0n, 0n],
  ['BAR0', 0x10, 8, 0xcn, 0xffff_ffff_fff8_0000n],
  ['BAR2', 0x18, 8, 0xcn, 0xffff_ffff_fffc_0000n],
  ['BAR4', 0x20, 8, 0x4n, 0xffff_ffff_ffff_0000n],
  ['CARDBUS_CIS', 0x28, 4, 0n, 0n],
  ['SUBSYSTEM_VENDOR_ID', 0x2c, 2, 0x1234n, 0n],
  ['SUBSYSTEM_ID', 0x2e, 2, 0x5d71n, 0n],
  ['EXPANSION_ROM', 0x30, 4, 0n, 0n],
  ['CAPABILITIES_POINTER', 0x34, 1, 0x40n, 0n],
  ['INTERRUPT_LINE', 0x3c, 1, 0n, 0xffn],
  ['INTERRUPT_PIN', 0x3d, 1, 0n, 0n],
  ['MIN_GNT', 0x3e, 1, 0n, 0n],
  ['MAX_LAT', 0x3f, 1, 0n, 0n],
  ['PM_CAP', 0x40, 2, 0x5001n, 0n],
  ['PMC', 0x42, 2, 0x0003n, 0n],
  ['PMCSR', 0x44, 2, 0x0008n, 0x3n],
  ['EXP_CAP', 0x50, 2, 0x9010n, 0n],
  ['EXP_FLAGS', 0x52, 2, 0x0002n, 0n],
  ['DEVCAP', 0x54, 4, 0x1000_8fe1n, 0n],
  ['DEVCTL', 0x58, 2, 0x2810n, 0x79ffn],
  ['DEVSTA', 0x5a, 2, 0n, 0n],
  ['LNKCAP', 0x5c, 4, 0x0040_0102n, 0n],
  ['LNKCTL', 0x60, 2, 0n, 0x00cbn],
  ['LNKSTA', 0x62, 2, 0x1102n, 0n],
  ['DEVCAP2', 0x74, 4, 0x10n, 0n],
  ['DEVCTL2', 0x78, 2, 0n, 0x10n],
  ['LNKCAP2', 0x7c, 4, 0x6n, 0n],
  ['LNKCTL2', 0x80, 2, 0x2n, 0xfn],
  ['MSIX_CAP', 0x90, 2, 0x0011n, 0n],
  ['MSIX_CONTROL', 0x92, 2, 0x0041n, 0xc000n],
  ['MSIX_TABLE', 0x94, 4, 0x4n, 0n],
  ['MSIX_PBA', 0x98, 4, 0x8004n, 0n],
  ['DSN_CAP', 0x100, 4, 0x0001_0003n, 0n],
  ['DSN', 0x104, 8, 0x0200_0000_0000_0001n, 0n],
];

/** Bits that writing 1 clears. */
const CLEARED_BY_ONE: [string, number, bigint][] = [
  ['STATUS', 0x06, 0xf900n],
  ['DEVSTA', 0x5a, 0xfn],
];

const TABLE = [...header(SHAPE, DEFAULT_IDENTITY, 0x40), ...capabilities(SHAPE.vectors, DEFAULT_IDENTITY)];

describe('registers (ref §9)', () => {
  it('S-95 there is no register besides those listed here, and bytes of none read 0', () => {
    expect(TABLE.map(({ name, offset, bytes }) => [name, offset, bytes])).toEqual(EXPECTED.map(([n, o, b]) => [n, o, b]));
    const named = new Set(EXPECTED.flatMap(([, offset, bytes]) => Array.from({ length: bytes }, (_, i) => offset + i)));
    expect([...new Rig().image()].filter((byte, at) => byte !== 0 && !named.has(at))).toEqual([]);
  });

  it.each(EXPECTED)('S-95 %s at 0x%d after reset, and the bits that can be set', (_name, offset, bytes, reset, settable) => {
    const rig = new Rig();
    const value = () => {
      const into = new Uint8Array(bytes);
      rig.pci.readConfig(offset, into);
      return little(into);
    };
    expect(value()).toBe(reset);
    const fixed = reset & ~settable;
    // Device Control without the bit that resets it.
    rig.write(offset, bytes, ((1n << BigInt(8 * bytes)) - 1n) & ~(offset === At.DEVCTL ? BigInt(FLR) : 0n));
    expect(value()).toBe(fixed | settable);
    rig.write(offset, bytes, 0);
    expect(value()).toBe(fixed);
  });

  it.each(CLEARED_BY_ONE)('%s: bits that are set are cleared by writing 1, and by nothing else', (name, offset, bits) => {
    const config = new ConfigSpace(TABLE);
    const before = config.get(name);
    config.set(name, before | bits);
    config.write(offset, Uint8Array.of(0, 0));
    expect(config.get(name)).toBe(before | bits);
    for (let bit = 1n; bit <= bits; bit <<= 1n) {
      if (!(bits & bit)) continue;
      config.write(offset, Uint8Array.of(Number(bit & 0xffn), Number(bit >> 8n)));
      expect(config.get(name) & bit).toBe(0n);
    }
    expect(config.get(name)).toBe(before);
  });

  it('every register says where the specification describes it, and every field what it means', () => {
    for (const { name, section, fields } of TABLE) {
      expect(section, name).toMatch(/^PCIe 6\.0 §7\./);
      for (const [field, { meaning }] of Object.entries(fields)) expect(meaning, `${name}.${field}`).not.toBe('');
    }
  });

  it('S-123 random writes of any size and place: read-only bits never change, and no byte changes but those written', () => {
    const writes = fc.array(fc.tuple(fc.integer({ min: 0, max: 0x110 }), fc.uint8Array({ minLength: 1, maxLength: 12 })), {
      maxLength: 12,
      size: 'max',
    });
    const settable = new Uint8Array(4096);
    for (const [, offset, bytes, , bits] of EXPECTED) {
      for (let i = 0; i < bytes; i++) settable[offset + i] = Number((bits >> BigInt(8 * i)) & 0xffn);
    }
    fc.assert(
      fc.property(writes, (list) => {
        const rig = new Rig();
        const initial = rig.image();
        for (const [offset, bytes] of list) {
          const at = At.DEVCTL + 1 - offset;
          if (at >= 0 && at < bytes.length) bytes[at] &= 0x7f; // no reset
          const before = rig.image();
          rig.pci.writeConfig(offset, bytes);
          const after = rig.image();
          for (let i = 0; i < 4096; i++) {
            const inside = i >= offset && i < offset + bytes.length;
            const expected = inside ? (before[i] & ~settable[i]) | (bytes[i - offset] & settable[i]) : before[i];
            const power = i === At.PMCSR && inside && (bytes[i - offset] & 3) % 3 !== 0;
            if (after[i] !== (power ? before[i] : expected)) return false;
            if ((after[i] ^ initial[i]) & ~settable[i]) return false;
          }
        }
        return true;
      }),
      { numRuns: 150 },
    );
  });

  it.each([
    [-1, 4],
    [4093, 4],
    [4096, 1],
    [0, 4097],
    [0.5, 1],
    [Number.NaN, 1],
  ])('an access that leaves configuration space is refused: %d, %d bytes', (offset, bytes) => {
    const { pci } = new Rig();
    expect(() => pci.readConfig(offset, new Uint8Array(bytes))).toThrow(/leaves its 4096 bytes/);
    expect(() => pci.writeConfig(offset, new Uint8Array(bytes).fill(0xff))).toThrow(/leaves its 4096 bytes/);
  });
});

describe('base address registers (ref §2.1, S-93)', () => {
  const SIZES: [number, number, number][] = [
    [0, 0x10, SHAPE.bar0Bytes],
    [2, 0x18, SHAPE.bar2Bytes],
    [4, 0x20, 0x10000],
  ];

  it('S-93 sizes by number: 64-bit BARs 0, 2 and 4, the last of 64 KiB', () => {
    expect(new Rig().pci.barBytes).toEqual([0x80000, 0, 0x40000, 0, 0x10000, 0]);
  });

  it.each(SIZES)('ref §2.1 BAR %d at %d: all ones, dword by dword, give its size', (number, offset, bytes) => {
    const rig = new Rig();
    rig.write(offset, 4, 0xffff_ffff);
    rig.write(offset + 4, 4, 0xffff_ffff);
    const value = (BigInt(rig.read(offset + 4, 4)) << 32n) | BigInt(rig.read(offset, 4));
    expect(BigInt.asUintN(64, ~(value & ~0xfn) + 1n)).toBe(BigInt(bytes));
    expect(value & 0xfn).toBe(number === 4 ? 0x4n : 0xcn);
  });

  it.each([12, 19, 31, 32, 33, 40, 52])('a BAR of 2^%d bytes: its size, and addresses that are multiples of it', (bits) => {
    const rig = new Rig({ bar2Bytes: 2 ** bits });
    expect(rig.pci.barBytes[2]).toBe(2 ** bits);
    rig.write(0x18, 8, 0xffff_ffff_ffff_ffffn);
    const into = new Uint8Array(8);
    rig.pci.readConfig(0x18, into);
    expect(little(into)).toBe(BigInt.asUintN(64, -(1n << BigInt(bits))) | 0xcn);
  });

  it('S-95 the ROM BAR is 0 whatever is written', () => {
    const rig = new Rig();
    rig.write(0x30, 4, 0xffff_ffff);
    expect(rig.read(0x30, 4)).toBe(0);
  });

  it('writes of single bytes change those bytes of the address', () => {
    const rig = new Rig();
    rig.write(0x10, 8, 0x1122_3344_5568_0000n);
    rig.write(0x12, 1, 0xff);
    rig.write(0x15, 1, 0);
    expect(rig.read(0x10, 4)).toBe(0x55f8_000c);
    expect(rig.read(0x14, 4)).toBe(0x1122_0044);
  });
});

describe('tables that contradict themselves are refused', () => {
  const one = (...fields: [number, number][]) =>
    register('X', 0, 2, '', Object.fromEntries(fields.map(([high, low], i) => [`f${i}`, rw(high, low, 0, 'x')])));

  it.each([
    ['registers overlap', [one([1, 0]), register('Y', 1, 2, '', {})], /Y .* overlaps another register/],
    ['fields overlap', [one([3, 0], [4, 3])], /f1 overlaps/],
    ['a field leaves its register', [one([16, 0])], /f0 has no place/],
    ['a reset value is too large', [register('X', 0, 1, '', { f: ro(1, 0, 4, 'x') })], /cannot hold/],
    ['a register leaves the space', [register('X', 7, 2, '', {})], /outside/],
  ])('%s', (_what, registers, message) => {
    expect(() => masksOf(registers, 8)).toThrow(message);
  });

  it('names that the table does not have', () => {
    const config = new ConfigSpace([register('X', 0, 1, '', { f: rw1c(0, 0, 0, 'x') })]);
    expect(() => config.get('Y')).toThrow(/no register Y/);
    expect(() => config.getField('X', 'g')).toThrow(/no field g/);
  });
});

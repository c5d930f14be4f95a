import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ArgumentError, EncodeError } from '../../src/errors.js';
import {
  address,
  bits,
  bytes,
  CXT_CTL,
  CXT_L1_ENT,
  CXT_STS,
  DSC_DMAB_COPY,
  DSC_DMAB_WRT_IMM,
  fromHex,
  layout,
  size,
  toHex,
  u8,
  u16,
  u64,
} from '../../src/spec/index.js';
import { fieldValues, LAYOUTS, structureBytes } from './arbitraries.js';

function refusal(run: () => unknown): EncodeError {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(EncodeError);
    return error as EncodeError;
  }
  throw new Error('was accepted');
}

describe('every table of spec/', () => {
  it('there are 38 of them: 14 registers, 9 structures, 15 descriptor formats', () => {
    const names = LAYOUTS.map((of) => of.name);
    expect(new Set(names).size).toBe(names.length);
    expect(names.filter((n) => n.startsWith('MMIO_')).length).toBe(14);
    expect(names.filter((n) => n.startsWith('DSC_')).length).toBe(15);
    expect(names.filter((n) => !/^(MMIO|DSC)_/.test(n)).sort()).toEqual(
      ['AKEY_ENT', 'CST_BLK', 'CXT_CTL', 'CXT_L1_ENT', 'CXT_L2_ENT', 'CXT_STS', 'ERRLOG_HD_ENT', 'RKEY_ENT', 'WRITE_INDEX'].sort(),
    );
  });

  describe.each(LAYOUTS.map((of) => [of.name, of] as const))('%s', (_name, of) => {
    it('decode and encode are the identity on any bytes, reserved bits included', () => {
      fc.assert(
        fc.property(structureBytes(of), (data) => {
          expect(toHex(of.encode(of.decode(data)))).toBe(toHex(data));
        }),
      );
    });

    it('encode and decode are the identity on any field values', () => {
      fc.assert(
        fc.property(fieldValues(of), (values) => {
          expect(of.decode(of.encode(values))).toEqual(values);
        }),
      );
    });

    it('every field says what it means and where it is described', () => {
      expect(of.section).toMatch(/ref §\d/);
      for (const field of Object.values(of.fields)) expect(field.meaning).not.toBe('');
    });
  });
});

describe('decoded values', () => {
  it('are numbers up to 32 bits and bigints above', () => {
    const values = CXT_L1_ENT.decode(new Uint8Array(32).fill(0xff));
    expect(values.opb_000_enb).toBe(0xffffffff);
    expect(values.akey_ptr).toBe(0xfffffffffffff000n);
  });

  it('ref §0.2 pointers are byte addresses with the flag bits masked off, not shifted', () => {
    expect(CXT_CTL.decode(CXT_CTL.encode({ vl: 1, se: 1, ds_ring_ptr: 0x44440040n })).ds_ring_ptr).toBe(0x44440040n);
  });

  it('ref §5.1 sizes are bytes: 1 is stored as 0, 4 GiB as 0xffffffff', () => {
    expect(DSC_DMAB_COPY.decode(new Uint8Array(64)).size).toBe(1);
    expect(toHex(DSC_DMAB_COPY.encode({ size: 2 ** 32 })).slice(8, 16)).toBe('ffffffff');
  });

  it('carry reserved bits only when some are set', () => {
    expect(CXT_STS.decode(fromHex('01000000000000000500000000000000'))).toEqual({ state: 1, rsh: 0, read_index: 5n });
    expect(CXT_STS.decode(fromHex('f1020000000000000500000000000000')).reserved).toBe('f0020000000000000000000000000000');
  });
});

describe('what encode refuses, with field, value and hint', () => {
  it.each([
    ['a value too wide', () => CXT_STS.encode({ state: 16 }), 'state', 16],
    ['a negative value', () => CXT_STS.encode({ read_index: -1n }), 'read_index', -1n],
    ['a fraction', () => CXT_STS.encode({ state: 0.5 }), 'state', 0.5],
    ['an unaligned pointer', () => CXT_CTL.encode({ ds_ring_ptr: 0x1020n }), 'ds_ring_ptr', 0x1020n],
    ['a pointer of 65 bits', () => CXT_CTL.encode({ ds_ring_ptr: 1n << 64n }), 'ds_ring_ptr', 1n << 64n],
    ['size 0', () => DSC_DMAB_COPY.encode({ size: 0 }), 'size', 0],
    ['size 4 GiB + 1', () => DSC_DMAB_COPY.encode({ size: 2 ** 32 + 1 }), 'size', 2 ** 32 + 1],
    ['a field that does not exist', () => CXT_STS.encode({ stat: 1 } as object), 'stat', 1],
    ['a name from the object prototype', () => CXT_STS.encode({ toString: 1 } as object), 'toString', 1],
    ['reserved bits of another length', () => CXT_STS.encode({ reserved: 'ff' }), 'reserved', 'ff'],
  ])('%s', (_what, run, field, value) => {
    const error = refusal(run);
    expect(error.code).toBe('ERR_SDXI_ENCODE');
    expect(error.fields.field).toBe(field);
    expect(error.fields.value).toBe(value);
    expect(error.hint).toBeTruthy();
  });

  it('bytes that are too many', () => {
    expect(refusal(() => DSC_DMAB_WRT_IMM.encode({ data: new Uint8Array(33) })).fields.field).toBe('data');
  });

  it('reserved bits never reach bits that a field names', () => {
    expect(CXT_STS.decode(CXT_STS.encode({ state: 1, reserved: 'ff'.repeat(16) }))).toMatchObject({ state: 1, rsh: 0, read_index: 0n });
  });
});

describe('what a table may not say', () => {
  it.each([
    ['two fields on one bit', () => layout('X', 8, 'ref §0', { a: bits(0, 4, 0, 'a'), b: bits(0, 4, 4, 'b') })],
    ['a field beyond the end', () => layout('X', 8, 'ref §0', { a: u16(7, 'a') })],
    ['a field named reserved', () => layout('X', 8, 'ref §0', { reserved: u8(0, 'a') })],
    ['more than 32 bits as a number', () => bits(0, 32, 0, 'a')],
  ])('%s', (_what, run) => {
    expect(run).toThrow(ArgumentError);
  });

  it('all makers place their bits in little-endian words', () => {
    const all = layout('X', 32, 'ref §0', {
      a: u8(0, 'a'),
      b: u16(2, 'b'),
      c: size(4, 'c'),
      d: address(8, 12, 'd'),
      e: u64(16, 'e'),
      f: bytes(24, 8, 'f'),
    });
    const data = all.encode({ a: 0x11, b: 0x2233, c: 0x44556678, d: 0x99aabbccddeef000n, e: 0x0102030405060708n, f: fromHex('aabbccdd') });
    expect(toHex(data)).toBe('11003322' + '77665544' + '00f0eeddccbbaa99' + '0807060504030201' + 'aabbccdd00000000');
  });

  it('decode wants exactly the bytes of the structure', () => {
    expect(() => CXT_STS.decode(new Uint8Array(15))).toThrow(ArgumentError);
  });
});

describe('fromHex', () => {
  it('skips spaces and takes 0x in front', () => {
    expect([...fromHex(' 0x01 02_03:0a\n')]).toEqual([1, 2, 3, 10]);
  });

  it.each(['0', 'zz', '1 2 3', '0x0x11', '1-2'])('refuses %j', (text) => {
    expect(() => fromHex(text)).toThrow(ArgumentError);
  });
});

/** Codes, operations, limits and 64-bit values. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import * as spec from '../../src/spec/index.js';

describe('codes', () => {
  it('ref §3.1 function states and requests', () => {
    expect(spec.FunctionState).toEqual({ STOP: 0, INIT: 1, ACTIVE: 2, STOPG_SF: 3, STOPG_HD: 4, ERROR: 5 });
    expect(spec.FunctionRequest).toEqual({ RESET: 0, STOP_SF: 1, STOP_HD: 2, ACTIVE: 3 });
  });

  it('ref §4.5 context states: exactly six are legal', () => {
    const legal = Array.from({ length: 16 }, (_, v) => v).filter((v) => spec.isCode(spec.ContextState, v));
    expect(legal).toEqual([0, 1, 2, 4, 6, 15]);
  });

  it('ref §8.2 steps and sub-steps, ref §8.1 reactions', () => {
    expect(Object.entries(spec.ErrorStep).map(([name, value]) => `${value} ${name}`)).toEqual([
      '1 INT',
      '2 CXT_L2',
      '3 CXT_L1',
      '4 CXT_CTL',
      '5 CXT_STS',
      '6 WRT_IDX',
      '7 DSC_GEN',
      '8 DSC_CSB',
      '9 ATOMIC',
      '10 DSC_BUF',
      '11 DSC_AKEY',
      '12 FN_RKEY',
    ]);
    expect(spec.SubStep).toEqual({ OTHER: 0, ATF: 1, DAF: 2, DVF: 3 });
    expect(spec.Reaction).toEqual({ INFORMATIVE: 0, CONTEXT_STOPPED: 1, FUNCTION_STOPPED: 2 });
  });

  it('nameOf has a word for every value', () => {
    expect(spec.nameOf(spec.ContextState, 15)).toBe('ERR_FN');
    expect(spec.nameOf(spec.ContextState, 7)).toBe('0x7');
  });
});

describe('operations', () => {
  it('ref §5.2 every operation is in OPERATIONS, and nothing else', () => {
    expect(spec.OPERATIONS.map((op) => `${op.type.toString(16)}/${op.subtype.toString(16)} ${op.name} ${op.layout.name}`)).toEqual([
      '1/1 NOP DSC_DMAB_NOP',
      '1/2 WRT_IMM DSC_DMAB_WRT_IMM',
      '1/3 COPY DSC_DMAB_COPY',
      '1/4 REPCOPY DSC_DMAB_REPCOPY',
      '2/0 FN_UPD DSC_FN_UPD',
      '2/1 CXT_UPD DSC_CXT_UPD',
      '2/2 AKEY_UPD DSC_AKEY_UPD',
      '2/3 CXT_START.NM DSC_CXT_START',
      '2/4 CXT_STOP DSC_CXT_STOP',
      '2/5 ADM_INTR DSC_ADM_INTR',
      '2/6 SYNC DSC_SYNC',
      '2/7 RKEY_UPD DSC_RKEY_UPD',
      '2/8 CXT_START.RS DSC_CXT_START',
      '3/1 SWAP DSC_ATOMIC',
      '3/2 UADD DSC_ATOMIC',
      '3/3 USUB DSC_ATOMIC',
      '3/5 AND DSC_ATOMIC',
      '3/6 OR DSC_ATOMIC',
      '3/7 XOR DSC_ATOMIC',
      '3/8 SMIN DSC_ATOMIC',
      '3/9 SMAX DSC_ATOMIC',
      '3/a UMIN DSC_ATOMIC',
      '3/b UMAX DSC_ATOMIC',
      '3/c UCLAMPI DSC_ATOMIC',
      '3/d UCLAMPD DSC_ATOMIC',
      '3/e CMPSWAP DSC_ATOMIC',
      '4/0 INTR DSC_INTR',
    ]);
  });

  it('ref §5.2 operationOf finds each by its codes', () => {
    for (const op of spec.OPERATIONS) expect(spec.operationOf(op.type, op.subtype)).toBe(op);
  });

  it('S-20 operationOf knows no hole, no unknown group, no error record', () => {
    expect(spec.operationOf(3, 4)).toBeUndefined();
    expect(spec.operationOf(0, 0)).toBeUndefined();
    expect(spec.operationOf(5, 0)).toBeUndefined();
    expect(spec.operationOf(spec.DescriptorType.ERRLOG, 0)).toBeUndefined();
    expect(spec.operationOf(1, 257)).toBeUndefined();
  });
});

describe('limits', () => {
  it('ref §2.7 doorbell strides are 4 KiB to 512 KiB', () => {
    expect([0, 1, 7].map(spec.doorbellStride)).toEqual([4096, 8192, 524288]);
  });

  it('S-78 the largest ring is 2^32 - 1, whatever the field says from 22 on', () => {
    expect([0, 1, 21].map(spec.maxRingEntries)).toEqual([1024, 2048, 2 ** 31]);
    expect([22, 23, 31].map(spec.maxRingEntries)).toEqual([2 ** 32 - 1, 2 ** 32 - 1, 2 ** 32 - 1]);
  });

  it('ref §2.8 S-8 key tables have 256 to 65,536 entries', () => {
    expect([0, 8].map(spec.akeyEntries)).toEqual([256, 65536]);
    expect([0, 8].map(spec.rkeyEntries)).toEqual([256, 65536]);
  });

  it('ref §2.8 max_buffer 0 is 2 MiB, 11 is 4 GiB', () => {
    expect([0, 11].map(spec.maxBufferBytes)).toEqual([2 ** 21, 2 ** 32]);
  });

  it('S-6 the log size counts pages, 0 is one page; pagesMinus1 is the other reading', () => {
    expect([0, 1, 31].map((sz) => spec.errorLogBytes(sz))).toEqual([4096, 4096, 31 * 4096]);
    expect([0, 1, 31].map((sz) => spec.errorLogBytes(sz, 'pagesMinus1'))).toEqual([4096, 8192, 32 * 4096]);
    expect([0, 5].map(spec.maxErrorLogBytes)).toEqual([4096, 131072]);
  });
});

describe('64-bit values', () => {
  const edges = [0, 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 32 + 1, 2 ** 53 - 1];

  it.each(edges)('%d survives store and load', (value) => {
    const u32 = new Uint32Array(4).fill(0xffffffff);
    spec.storeU64(u32, 1, value);
    expect(spec.loadU64(u32, 1)).toBe(value);
    expect(spec.loadSharedU64(u32, 1)).toBe(value);
    expect([u32[0], u32[3]]).toEqual([0xffffffff, 0xffffffff]);
    expect(new BigUint64Array(u32.slice(1, 3).buffer)[0]).toBe(BigInt(value));
  });

  it('numbers, halves and bigints agree', () => {
    fc.assert(
      fc.property(fc.maxSafeNat(), (value) => {
        const [lo, hi] = spec.fromBigInt(BigInt(value));
        expect([spec.lo32(value), spec.hi32(value)]).toEqual([lo, hi]);
        expect(spec.toBigInt(lo, hi)).toBe(BigInt(value));
        const u32 = new Uint32Array(2);
        spec.storeU64(u32, 0, value);
        expect(spec.loadU64(u32, 0)).toBe(value);
      }),
    );
  });

  it('S-103 everything from 2^53 up loads as 2^53 or more', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 2n ** 53n, max: 2n ** 64n - 1n }), (value) => {
        expect(spec.loadU64(Uint32Array.from(spec.fromBigInt(value)), 0)).toBeGreaterThanOrEqual(spec.MAX_INDEX);
      }),
    );
  });

  it('halves are taken as unsigned', () => {
    expect(spec.toBigInt(-1, -1)).toBe(2n ** 64n - 1n);
    expect(spec.fromBigInt(2n ** 64n - 1n)).toEqual([0xffffffff, 0xffffffff]);
  });
});

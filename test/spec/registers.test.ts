/** Registers: the list of ref §2.2 and the golden values of ref §13.3. */
import { describe, expect, it } from 'vitest';
import {
  type AnyLayout,
  type AnyValue,
  BAR0_BYTES,
  bar2Bytes,
  decodeRegister,
  doorbellOffset,
  encodeRegister,
  FunctionRequest,
  MMIO_CAP0,
  MMIO_CAP1,
  MMIO_CTL0,
  MMIO_CTL2,
  MMIO_CXT_L2,
  MMIO_ERR_CFG,
  MMIO_ERR_CTL,
  MMIO_ERR_RD,
  MMIO_ERR_STS,
  MMIO_ERR_WRT,
  MMIO_GRP_ENUM,
  MMIO_RKEY,
  MMIO_STS0,
  MMIO_VERSION,
  REGISTERS,
  Reg,
  registerBytes,
  registerValue,
} from '../../src/spec/index.js';

const VALUES: [title: string, layout: AnyLayout, value: bigint, fields: Record<string, AnyValue>][] = [
  ['VERSION 1.0', MMIO_VERSION, 0x0000000000010000n, { major: 1, minor: 0 }],
  [
    'CAP0 of AMD hardware',
    MMIO_CAP0,
    0x0000000816000801n,
    { sfunc: 0x0801, vf: 0, cs_cap: 0, db_stride: 0, max_ds_ring_sz: 22, max_rkey_sz: 8 },
  ],
  [
    'CAP1 of AMD hardware',
    MMIO_CAP1,
    0x00000018003f855bn,
    { max_buffer: 11, rkey_cap: 1, rm: 0, mmio64: 1, max_errlog_sz: 5, max_akey_sz: 8, max_cxt: 63, opb_000_cap: 0x18 },
  ],
  ['CTL2 as v3 writes it', MMIO_CTL2, 0x00000018003f800bn, { max_buffer: 11, max_akey_sz: 8, max_cxt: 63, opb_000_avl: 0x18 }],
  ['CTL2 as the prototype writes it', MMIO_CTL2, 0x000000180040800bn, { max_buffer: 11, max_akey_sz: 8, max_cxt: 64, opb_000_avl: 0x18 }],
  ['CTL0 that activates', MMIO_CTL0, 0x0000000000000003n, { fn_gsr: FunctionRequest.ACTIVE }],
  [
    'CTL0 with error interrupt and group 7',
    MMIO_CTL0,
    0x0000000700000013n,
    { fn_gsr: FunctionRequest.ACTIVE, fn_err_intr_en: 1, fn_grp_id: 7 },
  ],
  ['RKEY as the prototype writes it', MMIO_RKEY, 0x0000000000007003n, { en: 1, sz: 1, ptr: 0x7000n }],
  ['ERR_CFG as RFC writes it', MMIO_ERR_CFG, 0x0000000000001003n, { en: 1, sz: 1, ptr: 0x1000n }],
  ['ERR_STS clear-all', MMIO_ERR_STS, 0x000000000000000bn, { sts: 1, ovf: 1, err: 1 }],
  ['CTL0 with a PASID', MMIO_CTL0, 0x000000000fffff04n, { fn_gsr: 0, fn_pasid_vl: 1, fn_pasid: 0xfffff }],
  ['GRP_ENUM probing', MMIO_GRP_ENUM, 0x2n, { busy: 0, probe: 1 }],
  ['STS0 in error', MMIO_STS0, 0x5n, { fn_gsv: 5 }],
  ['CXT_L2 at 0x12345000', MMIO_CXT_L2, 0x12345000n, { ptr: 0x12345000n }],
  ['ERR_CTL enabled', MMIO_ERR_CTL, 0x1n, { intr_en: 1 }],
  ['ERR_WRT keeps 64 bits', MMIO_ERR_WRT, 0xffffffffffffffffn, { index: 0xffffffffffffffffn }],
  ['ERR_RD keeps 64 bits', MMIO_ERR_RD, 0x8000000000000001n, { index: 0x8000000000000001n }],
];

describe('ref §13.3 registers', () => {
  it.each(VALUES)('ref §13.3 %s', (_title, layout, value, fields) => {
    expect(encodeRegister(layout as typeof MMIO_CTL0, fields)).toBe(value);
    expect(decodeRegister(layout as typeof MMIO_CTL0, value)).toMatchObject(fields);
    expect(registerValue(registerBytes(value))).toBe(value);
  });

  it('ref §2.10 reserved bits that software writes survive decode and encode', () => {
    const fields = decodeRegister(MMIO_CXT_L2, 0x12345fffn);
    expect(fields.ptr).toBe(0x12345000n);
    expect(encodeRegister(MMIO_CXT_L2, fields)).toBe(0x12345fffn);
  });

  it('ref §13.3 doorbell of context 5, stride 0 and 2', () => {
    expect(doorbellOffset(5, 0)).toBe(0x5000);
    expect(doorbellOffset(5, 2)).toBe(0x14000);
  });
});

describe('ref §2.2 register list', () => {
  it('ref §2.2 offsets, access and reset values', () => {
    expect(REGISTERS.map((r) => [r.offset, r.layout.name, r.access, r.reset])).toEqual([
      [0x00000, 'MMIO_CTL0', 'RW', 0n],
      [0x00008, 'MMIO_GRP_ENUM', 'RW', 0n],
      [0x00010, 'MMIO_CTL2', 'RW', 'CAP1'],
      [0x00100, 'MMIO_STS0', 'RO', 0n],
      [0x00200, 'MMIO_CAP0', 'RO', 'configuration'],
      [0x00208, 'MMIO_CAP1', 'RO', 'configuration'],
      [0x00210, 'MMIO_VERSION', 'RO', 0x10000n],
      [0x10000, 'MMIO_CXT_L2', 'RW', 0n],
      [0x10100, 'MMIO_RKEY', 'RW', 0n],
      [0x20000, 'MMIO_ERR_CTL', 'RW', 0n],
      [0x20008, 'MMIO_ERR_STS', 'RW1C', 0n],
      [0x20010, 'MMIO_ERR_CFG', 'RW', 0n],
      [0x20020, 'MMIO_ERR_WRT', 'RW', 0n],
      [0x20028, 'MMIO_ERR_RD', 'RW', 0n],
    ]);
  });

  it('ref §2.2 every offset of Reg is in the list, aligned and inside BAR 0', () => {
    expect(Object.fromEntries(REGISTERS.map((r) => [r.name, r.offset]))).toEqual(Reg);
    for (const r of REGISTERS) {
      expect(r.offset % 8).toBe(0);
      expect(r.offset).toBeLessThan(BAR0_BYTES);
      expect(r.layout.byteLength).toBe(8);
      expect(r.layout.name).toBe(`MMIO_${r.name}`);
    }
  });

  it('ref §2.1 BAR 2 is a power of two that holds every doorbell', () => {
    expect(bar2Bytes(0, 0)).toBe(0x10000);
    expect(bar2Bytes(15, 0)).toBe(0x10000);
    expect(bar2Bytes(16, 0)).toBe(0x20000);
    expect(bar2Bytes(63, 0)).toBe(0x40000);
    expect(bar2Bytes(65535, 7)).toBe(2 ** 35);
  });
});

import {
  ContextState,
  decodeRegister,
  doorbellStride,
  encodeRegister,
  FunctionRequest,
  FunctionState,
  MMIO_CAP0,
  MMIO_CAP1,
  MMIO_CTL0,
  MMIO_CTL2,
  REGISTERS,
  Reg,
} from '../../spec/index.js';
import { decision, equal, holds, requirement, section, skip } from '../check.js';
import { nop } from '../program.js';
import type { Rig } from '../rig.js';

const ALL = 2n ** 64n - 1n;
const POINTER = ALL & ~0xfffn;

/** Registers that hold an address, with what else of them keeps its value while the function is stopped. */
const POINTERS = [
  ['cxt-l2', Reg.CXT_L2, POINTER, '§2.10, SDXI 1.0 table 9-9'],
  ['rkey', Reg.RKEY, POINTER | 0x1en, '§2.11, SDXI 1.0 table 9-10'],
  ['err-cfg', Reg.ERR_CFG, POINTER | 0x3en, '§2.12, SDXI 1.0 table 9-13'],
] as const;

const COUNTERS = [
  ['err-wrt', Reg.ERR_WRT],
  ['err-rd', Reg.ERR_RD],
] as const;

const READ_ONLY = ['CAP0', 'CAP1', 'VERSION', 'STS0'] as const;

/** Bits of each register that no field names, in order to be written 1. */
function reservedBits(name: keyof typeof Reg): bigint {
  const { layout } = REGISTERS.find((register) => register.name === name) as (typeof REGISTERS)[number];
  let used = 0n;
  for (const { byte, highBit, lowBit } of Object.values(layout.fields)) {
    used |= ((1n << BigInt(highBit - lowBit + 1)) - 1n) << BigInt(byte * 8 + lowBit);
  }
  return ALL & ~used;
}

const WITH_RESERVED = ['CTL0', 'GRP_ENUM', 'CTL2', 'CXT_L2', 'RKEY', 'ERR_CTL', 'ERR_STS', 'ERR_CFG'] as const;

/** Offsets where ref §2.2 lists no register. */
const UNLISTED = [0x18, 0x20, 0xf8, 0x108, 0x218, 0x1000, 0x10008, 0x10108, 0x20018, 0x20030, 0x7fff8] as const;

function readsBack(t: Rig, offset: number, value: bigint, mask = ALL): void {
  t.write(offset, value);
  equal(t.read(offset) & mask, value & mask, `register 0x${offset.toString(16)}, written 0x${value.toString(16)},`);
}

export const registerChecks = section(
  '2 Registers',
  requirement('version.major', 'VERSION says 1.x', 'ref §2.9, SDXI 1.0 table 9-8', (t) => {
    equal((t.read(Reg.VERSION) >> 16n) & 0xffn, 1n, 'the major version');
  }),
  requirement('version.reserved', 'VERSION has nothing but minor and major', 'ref §2.9', (t) => {
    equal(t.read(Reg.VERSION) & reservedBits('VERSION'), 0n, 'what is reserved in VERSION');
  }),
  requirement('cap0.reserved', 'reserved bits of CAP0 are 0', 'ref §2.7, SDXI 1.0 table 9-6', (t) => {
    equal(t.read(Reg.CAP0) & reservedBits('CAP0'), 0n, 'what is reserved in CAP0');
  }),
  requirement('cap1.reserved', 'reserved bits of CAP1 are 0', 'ref §2.8, SDXI 1.0 table 9-7', (t) => {
    equal(t.read(Reg.CAP1) & reservedBits('CAP1'), 0n, 'what is reserved in CAP1');
  }),
  requirement('sts0.reserved', 'STS0 has nothing but fn_gsv', 'ref §2.6, SDXI 1.0 table 9-5', (t) => {
    equal(t.read(Reg.STS0), BigInt(FunctionState.STOP), 'STS0 in GSV_STOP');
  }),
  decision('cap0.sfunc', 'sfunc is not 0, which means local in an AKey', 'ref §2.7, S-37', (t) => {
    holds(t.caps.sfunc !== 0, 'CAP0.sfunc is 0');
  }),
  requirement('cap1.max-akey-sz', 'max_akey_sz is 0 … 8', 'ref §2.8', (t) => {
    holds(t.caps.maxAkeySize <= 8, `CAP1.max_akey_sz is ${t.caps.maxAkeySize}`);
  }),
  decision('cap1.rm', 'rm, known by name only, is 0', 'S-5', (t) => {
    equal(decodeRegister(MMIO_CAP1, t.read(Reg.CAP1)).rm, 0, 'CAP1.rm');
  }),
  decision('cap1.mmio64', 'a function whose registers take 64-bit accesses says so', 'ref §2.8', (t) => {
    equal(decodeRegister(MMIO_CAP1, t.read(Reg.CAP1)).mmio64, 1, 'CAP1.mmio64');
  }),
  decision('cap1.base-groups', 'the mandatory groups are not listed in opb_000_cap', 'ref §2.8, S-7', (t) => {
    equal(t.caps.opGroups & 0b110, 0, 'bits 1 and 2 of opb_000_cap');
  }),
  READ_ONLY.map((name) =>
    requirement(`${name.toLowerCase()}.read-only`, `writes to ${name} change nothing`, 'ref §2.2', (t) => {
      const before = t.read(Reg[name]);
      for (const value of [ALL, 0n, 0x0123_4567_89ab_cdefn]) {
        t.write(Reg[name], value);
        equal(t.read(Reg[name]), before, `${name} after a write of 0x${value.toString(16)}`);
      }
    }),
  ),
  requirement('cap.constant', 'CAP0, CAP1 and VERSION are the same in STOP, ACTIVE and after a stop', 'ref §2.2', async (t) => {
    const read = () => [Reg.CAP0, Reg.CAP1, Reg.VERSION].map((offset) => t.read(offset)).join();
    const before = read();
    await t.activate();
    equal(read(), before, 'CAP0, CAP1, VERSION in ACTIVE');
    t.request(FunctionRequest.STOP_SF);
    await t.functionBecomes(FunctionState.STOP);
    equal(read(), before, 'CAP0, CAP1, VERSION after a stop');
  }),
  POINTERS.flatMap(([name, offset, mask, basis]) => [
    requirement(`${name}.bits`, `each address bit of ${name} is kept`, `ref ${basis}`, (t) => {
      for (let bit = 12n; bit < 64n; bit++) readsBack(t, offset, 1n << bit);
    }),
    requirement(`${name}.value`, `${name} reads back what was written`, `ref ${basis}`, (t) => {
      for (const value of [0xffff_ffff_ffff_f000n, 0x1234_5678_9abc_d000n, 0n]) readsBack(t, offset, value & mask, mask);
    }),
  ]),
  requirement('rkey.fields', 'RKEY keeps en, sz and ptr', 'ref §2.11, SDXI 1.0 table 9-10', (t) => {
    for (let sz = 0n; sz < 16n; sz++) readsBack(t, Reg.RKEY, 0x7000n | (sz << 1n) | (sz & 1n));
  }),
  requirement('err-cfg.fields', 'ERR_CFG keeps en, sz and ptr', 'ref §2.12, SDXI 1.0 table 9-13', (t) => {
    for (let sz = 0n; sz < 32n; sz++) readsBack(t, Reg.ERR_CFG, 0x7000n | (sz << 1n) | (sz & 1n));
  }),
  COUNTERS.flatMap(([name, offset]) => [
    requirement(`${name}.zero`, `${name} takes the 0 of initialization`, 'ref §2.12, §8.4', (t) => readsBack(t, offset, 0n)),
    requirement(`${name}.bits`, `${name} has 64 bits`, 'ref §2.12', (t) => {
      for (let bit = 0n; bit < 64n; bit++) readsBack(t, offset, 1n << bit);
      readsBack(t, offset, ALL);
    }),
  ]),
  requirement('err-ctl.intr-en', 'ERR_CTL keeps intr_en', 'ref §2.12, SDXI 1.0 table 9-11', (t) => {
    readsBack(t, Reg.ERR_CTL, 1n);
    readsBack(t, Reg.ERR_CTL, 0n);
  }),
  requirement(
    'err-sts.zero',
    'ERR_STS is 0 when nothing was logged, and writing does not set it',
    'ref §2.12, SDXI 1.0 table 9-12',
    (t) => {
      for (const value of [0n, 1n, 0xbn, ALL]) {
        t.write(Reg.ERR_STS, value);
        equal(t.read(Reg.ERR_STS), 0n, 'ERR_STS');
      }
    },
  ),
  requirement('err-sts.w1c', 'ERR_STS bits are cleared by 1, not by 0', 'ref §2.12, SDXI 1.0 table 9-12', async (t) => {
    const context = await t.worker();
    await context.fails(nop({ subtype: 0x7f }), { step: 7, sub: 3 });
    t.write(Reg.ERR_STS, 0n);
    equal(t.log.status.sts, 1, 'sts after a write of 0');
    t.write(Reg.ERR_STS, 0xan);
    equal(t.log.status.sts, 1, 'sts after a write of the other bits');
    t.write(Reg.ERR_STS, 1n);
    equal(t.read(Reg.ERR_STS), 0n, 'ERR_STS after a write of 1');
  }),
  requirement('ctl0.group', 'CTL0 keeps fn_grp_id', 'ref §2.3, SDXI 1.0 table 9-2', (t) => {
    const before = t.read(Reg.CTL0) & ~0xffff_ffffn;
    for (let bit = 32n; bit < 64n; bit++) readsBack(t, Reg.CTL0, 1n << bit);
    readsBack(t, Reg.CTL0, before);
  }),
  requirement('ctl0.pasid', 'CTL0 keeps fn_pasid and fn_pasid_vl', 'ref §2.3, SDXI 1.0 §4.1.8', (t) => {
    const group = t.read(Reg.CTL0) & ~0xffff_ffffn;
    for (let bit = 8n; bit < 28n; bit++) readsBack(t, Reg.CTL0, group | (1n << bit) | 4n);
    readsBack(t, Reg.CTL0, group);
  }),
  requirement('ctl0.err-intr-en', 'CTL0 keeps fn_err_intr_en', 'ref §2.3', (t) => {
    const group = t.read(Reg.CTL0) & ~0xffff_ffffn;
    readsBack(t, Reg.CTL0, group | 0x10n);
    readsBack(t, Reg.CTL0, group);
  }),
  decision('ctl0.gsr-reads-back', 'CTL0.fn_gsr reads the last value written', 'ref §2.3, S-90', async (t) => {
    for (const request of [FunctionRequest.STOP_SF, FunctionRequest.STOP_HD, FunctionRequest.RESET]) {
      t.request(request);
      equal(decodeRegister(MMIO_CTL0, t.read(Reg.CTL0)).fn_gsr, request, 'CTL0.fn_gsr');
    }
    await t.activate();
    equal(decodeRegister(MMIO_CTL0, t.read(Reg.CTL0)).fn_gsr, FunctionRequest.ACTIVE, 'CTL0.fn_gsr');
  }),
  requirement('ctl2.fields', 'CTL2 keeps conservative limits', 'ref §2.5, SDXI 1.0 table 9-4', (t) => {
    readsBack(t, Reg.CTL2, 0n);
    readsBack(t, Reg.CTL2, t.read(Reg.CAP1) & 0xffff_ffff_ffff_f00fn);
  }),
  decision('ctl2.unclamped', 'CTL2 reads back what was written, larger than CAP1 or not', 'ref §2.5', (t) => {
    readsBack(t, Reg.CTL2, 0xffff_ffff_ffff_f00fn);
  }),
  decision('ctl2.reset', 'after a reset CTL2 equals the fields of CAP1', 'ref §2.2, S-11', async (t) => {
    await t.activate({ log: false });
    t.write(Reg.CTL2, 0n);
    t.request(FunctionRequest.RESET);
    await t.functionBecomes(FunctionState.STOP);
    equal(t.read(Reg.CTL2), t.read(Reg.CAP1) & 0xffff_ffff_ffff_f00fn, 'CTL2');
  }),
  WITH_RESERVED.map((name) =>
    decision(`${name.toLowerCase().replace('_', '-')}.reserved`, `reserved bits of ${name} read 0, whatever was written`, 'S-101', (t) => {
      const keep = name === 'CTL0' ? t.read(Reg.CTL0) & ~0xffff_ffffn : 0n;
      t.write(Reg[name], keep | reservedBits(name));
      equal(t.read(Reg[name]) & reservedBits(name), 0n, `what is reserved in ${name}`);
    }),
  ),
  requirement('registers.independent', 'each register keeps its own value', 'ref §2.2', (t) => {
    const group = t.read(Reg.CTL0) & ~0xffff_ffffn;
    const values: [number, bigint][] = [
      [Reg.CTL0, group | 0x1234514n],
      [Reg.CTL2, 0n],
      [Reg.CXT_L2, 0x1111_1111_1000n],
      [Reg.RKEY, 0x2222_2222_2000n],
      [Reg.ERR_CTL, 1n],
      [Reg.ERR_CFG, 0x3333_3333_3000n],
      [Reg.ERR_WRT, 0x4444_4444n],
      [Reg.ERR_RD, 0x5555_5555_5555n],
    ];
    for (const [offset, value] of values) t.write(offset, value);
    for (const [offset, value] of values) {
      const mask = offset === Reg.CTL0 ? ~3n & ALL : ALL;
      equal(t.read(offset) & mask, value & mask, `register 0x${offset.toString(16)}`);
    }
    equal(t.read(Reg.ERR_STS), 0n, 'ERR_STS');
  }),
  decision('registers.unlisted', 'offsets without a register read 0 and ignore writes', 'ref §2.1', (t) => {
    for (const offset of UNLISTED) {
      t.write(offset, ALL);
      equal(t.read(offset), 0n, `offset 0x${offset.toString(16)}`);
    }
  }),
  decision('mailbox.zero', 'the mailbox block reads 0', 'S-3', (t) => {
    t.write(0x30000, ALL);
    equal(t.read(0x30000), 0n, 'offset 0x30000');
  }),
  decision('grp-enum.probe', 'GRP_ENUM keeps probe, and a function alone is not busy', 'ref §2.4, S-4', (t) => {
    readsBack(t, Reg.GRP_ENUM, 2n);
    readsBack(t, Reg.GRP_ENUM, 0n);
  }),
  requirement('doorbells.size', 'the doorbell region has room for every context', 'ref §2.13', (t) => {
    const needed = (t.caps.maxContext + 1) * doorbellStride(t.caps.dbStride);
    holds(t.bus.doorbellBytes >= needed, `the region has ${t.bus.doorbellBytes} bytes, ${t.caps.maxContext + 1} contexts need ${needed}`);
  }),
  decision('doorbells.inside-stride', 'doorbells lie at the start of their stride only', 'ref §2.13', async (t) => {
    const context = await t.worker();
    await t.settle();
    context.put(context.claim(1), nop());
    const base = context.number * doorbellStride(t.caps.dbStride);
    for (const offset of [8, 64, 2048, 4088]) t.bus.writeDoorbell(base + offset, 1);
    if (t.caps.dbStride > 0) t.bus.writeDoorbell(base + 4096, 1);
    await t.quiet(() => context.readIndex > 0, 'a write beside the doorbell woke the context');
    context.doorbell();
    await context.reached();
  }),
  requirement(
    'doorbells.stride',
    'the doorbell of the highest context lies at its stride',
    'ref §2.13',
    async (t) => {
      await t.activate();
      const context = t.running(t.caps.maxContext);
      await context.run(nop());
    },
    { needs: ['context1'] },
  ),
  decision(
    'doorbells.above-max-cxt',
    'doorbells above CTL2.max_cxt are ignored',
    'ref §2.5, §2.13',
    async (t) => {
      await t.activate();
      t.write(Reg.CTL2, t.read(Reg.CTL2) & ~0xffff_0000n);
      const context = t.context(1, { state: ContextState.RUN });
      context.submit(nop());
      await t.quiet(() => context.readIndex > 0, 'a context above CTL2.max_cxt ran');
      t.write(Reg.CTL2, encodeRegister(MMIO_CTL2, decodeRegister(MMIO_CTL2, t.read(Reg.CAP1) & 0xffff_ffff_ffff_f00fn)));
      context.doorbell();
      await context.reached();
    },
    { needs: ['context1'] },
  ),
  requirement(
    'ctl2.late',
    'CTL2 may be written after ACTIVE, and max_cxt = CAP1.max_cxt + 1 is clamped',
    'ref §2.5, O-5',
    async (t) => {
      if (t.caps.maxContext === 0xffff) skip('CAP1.max_cxt has no room for one more');
      await t.activate();
      t.write(Reg.CTL2, t.read(Reg.CTL2) + 0x1_0000n);
      const context = t.running(t.caps.maxContext, { index: t.caps.maxContext === 0 ? t.admin.claimed : 0 });
      await context.run(nop());
    },
    { needs: ['context1'] },
  ),
  requirement('cap0.stride-field', 'CAP0 is the same when read in any order with other registers', 'ref §2.1', (t) => {
    const first = t.read(Reg.CAP0);
    for (const { offset } of REGISTERS) t.read(offset);
    equal(decodeRegister(MMIO_CAP0, t.read(Reg.CAP0)).db_stride, decodeRegister(MMIO_CAP0, first).db_stride, 'CAP0.db_stride');
    equal(t.read(Reg.CAP0), first, 'CAP0');
  }),
);

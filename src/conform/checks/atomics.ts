import { AtomicOp } from '../../spec/index.js';
import { decision, equal, section } from '../check.js';
import { atomic, nop } from '../program.js';
import type { Rig } from '../rig.js';

type Width = 4 | 8;
const NEEDS = { needs: ['atomics'] } as const;

const ones = (width: Width) => 2n ** BigInt(8 * width) - 1n;
const sign = (width: Width) => 2n ** BigInt(8 * width - 1);

/** Old value, operand A, operand B, new value; -1n stands for all ones, -2n for the sign bit alone. ref §5.4 */
const CASES: Record<keyof typeof AtomicOp, [m: bigint, a: bigint, after: bigint, b?: bigint][]> = {
  SWAP: [
    [5n, 9n, 9n],
    [-1n, 0n, 0n],
  ],
  UADD: [
    [5n, 7n, 12n],
    [-1n, 2n, 1n],
    [-2n, -2n, 0n],
  ],
  USUB: [
    [12n, 7n, 5n],
    [0n, 1n, -1n],
  ],
  AND: [
    [0b1100n, 0b1010n, 0b1000n],
    [-1n, -2n, -2n],
  ],
  OR: [
    [0b1100n, 0b1010n, 0b1110n],
    [0n, -2n, -2n],
  ],
  XOR: [
    [0b1100n, 0b1010n, 0b0110n],
    [-1n, -1n, 0n],
  ],
  SMIN: [
    [5n, -1n, -1n],
    [-2n, 5n, -2n],
    [3n, 4n, 3n],
  ],
  SMAX: [
    [5n, -1n, 5n],
    [-2n, 5n, 5n],
    [3n, 4n, 4n],
  ],
  UMIN: [
    [5n, -1n, 5n],
    [-2n, 5n, 5n],
    [4n, 3n, 3n],
  ],
  UMAX: [
    [5n, -1n, -1n],
    [-2n, 5n, -2n],
    [4n, 3n, 4n],
  ],
  UCLAMPI: [
    [5n, 9n, 6n],
    [9n, 9n, 9n],
    [10n, 9n, 9n],
  ],
  UCLAMPD: [
    [9n, 5n, 8n],
    [5n, 5n, 5n],
    [4n, 5n, 5n],
  ],
  CMPSWAP: [
    [5n, 9n, 9n, 5n],
    [5n, 9n, 5n, 6n],
    [-1n, 0n, 0n, -1n],
  ],
};

function value(code: bigint, width: Width): bigint {
  if (code === -1n) return ones(width);
  return code === -2n ? sign(width) : code;
}

function bytesOf(number: bigint, width: Width): Uint8Array {
  const data = new Uint8Array(8);
  new DataView(data.buffer).setBigUint64(0, number, true);
  return data.subarray(0, width);
}

const BASIS = (name: string) => (name.startsWith('UCLAMP') ? 'S-23, S-24' : 'S-23');

async function runs(t: Rig, name: keyof typeof AtomicOp, width: Width): Promise<void> {
  const context = await t.worker();
  // In the middle of other bytes, which must stay.
  const target = t.mem.alloc('the target', 24);
  const returned = t.mem.alloc('the return data', 24);
  target.put(0, new Uint8Array(24).fill(0x77));
  for (const [m, a, after, b = 0n] of CASES[name]) {
    const old = bytesOf(value(m, width), width);
    target.put(8, old);
    target.want(8, bytesOf(value(after, width), width));
    returned.want(8, old);
    await context.run(atomic(AtomicOp[name], width, target.iova + 8, value(a, width), value(b, width), returned.iova + 8));
    target.verify();
    returned.verify();
  }
}

export const atomicChecks = section(
  '5.4 Atomic operations',
  (Object.keys(AtomicOp) as (keyof typeof AtomicOp)[]).flatMap((name) =>
    ([4, 8] as const).map((width) =>
      decision(
        `atomic.${name.toLowerCase()}.${width * 8}`,
        `${name} on ${width * 8} bits, with the old value returned`,
        BASIS(name),
        (t) => runs(t, name, width),
        NEEDS,
      ),
    ),
  ),
  decision(
    'atomic.no-return',
    'rd = 0: addr1 and akey1 are not looked at',
    'S-23',
    async (t) => {
      const context = await t.worker();
      const target = t.mem.alloc('the target', 8);
      target.want(0, [3]);
      await context.run(atomic(AtomicOp.UADD, 8, target.iova, 3n, 0n, undefined, { akey1: 0xffff, addr1: t.mem.hole }));
    },
    NEEDS,
  ),
  decision(
    'atomic.return-in-other-key',
    'the old value goes through akey1',
    'S-23, ref §7.1',
    async (t) => {
      const context = await t.worker();
      context.akey(5, {});
      const target = t.mem.alloc('the target', 8);
      const returned = t.mem.alloc('the return data', 8);
      target.put(0, [9]);
      target.want(0, [1]);
      returned.want(0, [9]);
      await context.run(atomic(AtomicOp.SWAP, 8, target.iova, 1n, 0n, returned.iova, { akey1: 5 }));
    },
    NEEDS,
  ),
  ([4, 8] as const).map((width) =>
    decision(
      `atomic.misaligned.${width * 8}`,
      `a ${width * 8}-bit target that is not aligned fails`,
      'S-23, ref §8.3 row 13',
      async (t) => {
        const context = await t.worker();
        const target = t.mem.alloc('the target', 16);
        await context.fails(atomic(AtomicOp.UADD, width, target.iova + width / 2, 1n), { step: 7, sub: 3 });
      },
      NEEDS,
    ),
  ),
  decision(
    'atomic.misaligned-return',
    'return data that is not aligned fails',
    'S-23, ref §8.3 row 13',
    async (t) => {
      const context = await t.worker();
      const target = t.mem.alloc('the target', 16);
      await context.fails(atomic(AtomicOp.UADD, 8, target.iova, 1n, 0n, target.iova + 12), { step: 7, sub: 3 });
    },
    NEEDS,
  ),
  [1, 2, 16].map((size) =>
    decision(
      `atomic.size-${size}`,
      `an operand of ${size} bytes fails`,
      'S-23',
      async (t) => {
        const context = await t.worker();
        const target = t.mem.alloc('the target', 16);
        await context.fails(atomic(AtomicOp.UADD, 8, target.iova, 1n, 0n, undefined, { size }), { step: 7, sub: 3 });
      },
      NEEDS,
    ),
  ),
  [0x00, 0x04, 0x0f].map((subtype) =>
    decision(
      `atomic.subtype-${subtype.toString(16)}`,
      `subtype 0x${subtype.toString(16)} is none`,
      'ref §5.2',
      async (t) => {
        const context = await t.worker();
        const target = t.mem.alloc('the target', 8);
        await context.fails(atomic(subtype, 8, target.iova, 1n), { step: 7, sub: 3 });
      },
      NEEDS,
    ),
  ),
  decision(
    'atomic.return-fault',
    'return data that cannot be written: step 9',
    'ref §8.3 row 14',
    async (t) => {
      const context = await t.worker();
      const target = t.mem.alloc('the target', 8);
      target.ignore();
      await context.fails(atomic(AtomicOp.UADD, 8, target.iova, 1n, 0n, t.mem.hole), { step: 9, sub: 1, operand: 1 });
    },
    NEEDS,
  ),
  decision(
    'atomic.target-fault',
    'a target that is not mapped: step 10',
    'ref §8.3 row 12',
    async (t) => {
      await (await t.worker()).fails(atomic(AtomicOp.UADD, 8, t.mem.hole, 1n), { step: 10, sub: 1, operand: 0 });
    },
    NEEDS,
  ),
  decision(
    'atomic.contexts',
    'two contexts count in one place: nothing is lost',
    'ref §5.4',
    async (t) => {
      await t.activate();
      const target = t.mem.alloc('the counter', 8);
      target.want(0, bytesOf(200n, 8));
      const contexts = [t.running(1), t.running(2)];
      for (const context of contexts) context.submit(...Array.from({ length: 100 }, () => atomic(AtomicOp.UADD, 8, target.iova, 1n)));
      for (const context of contexts) await context.run(nop({ fe: 1 }));
      equal(target.u64(0), 200n, 'the counter');
    },
    { needs: ['atomics', 'context2'] },
  ),
  decision(
    'atomic.group-off',
    'without the group in the level-1 entry atomics fail',
    'ref §5.2, S-7',
    async (t) => {
      const context = await t.worker({ l1: { opb_000_enb: 0 } });
      const target = t.mem.alloc('the target', 8);
      await context.fails(atomic(AtomicOp.UADD, 8, target.iova, 1n), { step: 7, sub: 3 });
    },
    NEEDS,
  ),
);

import { Access, type Mapping } from '../../memory/address-space.js';
import { AtomicOp, ErrorStep, SubStep, TWO32, toBigInt } from '../../spec/index.js';
import { resolveSpace } from '../access.js';
import type { FunctionContext } from '../context.js';
import { type Core, Outcome } from '../core.js';

/** New value from old value m, operands a and b, and the width in bits. Unsigned values in and out. Ref §5.4, S-24. */
export const ATOMIC_RESULT: Readonly<Record<number, (m: bigint, a: bigint, b: bigint, width: number) => bigint>> = {
  [AtomicOp.SWAP]: (_m, a) => a,
  [AtomicOp.UADD]: (m, a) => m + a,
  [AtomicOp.USUB]: (m, a) => m - a,
  [AtomicOp.AND]: (m, a) => m & a,
  [AtomicOp.OR]: (m, a) => m | a,
  [AtomicOp.XOR]: (m, a) => m ^ a,
  [AtomicOp.SMIN]: (m, a, _b, width) => (BigInt.asIntN(width, m) < BigInt.asIntN(width, a) ? m : a),
  [AtomicOp.SMAX]: (m, a, _b, width) => (BigInt.asIntN(width, m) > BigInt.asIntN(width, a) ? m : a),
  [AtomicOp.UMIN]: (m, a) => (m < a ? m : a),
  [AtomicOp.UMAX]: (m, a) => (m > a ? m : a),
  [AtomicOp.UCLAMPI]: (m, a) => (m < a ? m + 1n : a),
  [AtomicOp.UCLAMPD]: (m, a) => (m > a ? m - 1n : a),
  [AtomicOp.CMPSWAP]: (m, a, b) => (m === b ? a : m),
};

/** The element of width 4 or 8 at an aligned address, as an unsigned value, changed indivisibly. @returns the old value */
function update(map: Mapping, address: number, bytes: 4 | 8, change: (old: bigint) => bigint): bigint {
  const bits = bytes * 8;
  for (;;) {
    if (bytes === 4) {
      const index = map.word(address);
      const seen = Atomics.load(map.i32, index);
      const old = BigInt.asUintN(32, BigInt(seen));
      const next = Number(BigInt.asIntN(32, change(old)));
      if (Atomics.compareExchange(map.i32, index, seen, next) === seen) return old;
    } else {
      const index = map.word(address) >>> 1;
      const seen = Atomics.load(map.i64, index);
      const old = BigInt.asUintN(bits, seen);
      if (Atomics.compareExchange(map.i64, index, seen, BigInt.asIntN(64, change(old))) === seen) return old;
    }
  }
}

/** Any operation of the atomic group (0x003). Ref §5.4, S-23. */
export function atomic(core: Core, context: FunctionContext, operation: number): Outcome {
  const { descriptor } = context;
  const size = descriptor[1] + 1;
  const target = descriptor[5] * TWO32 + descriptor[4];
  const returnsOld = (descriptor[2] & 0x100) !== 0;
  const returned = descriptor[7] * TWO32 + descriptor[6];
  if ((size !== 4 && size !== 8) || (descriptor[4] & (size - 1)) !== 0 || (returnsOld && (descriptor[6] & (size - 1)) !== 0)) {
    return core.fail(ErrorStep.DSC_GEN, SubStep.DVF);
  }
  if (!resolveSpace(core, context, descriptor[3] & 0xffff, 0)) return Outcome.FAILED;
  if (returnsOld && !resolveSpace(core, context, descriptor[3] >>> 16, 1)) return Outcome.FAILED;

  const map = context.source?.find(target, size, Access.READ_WRITE);
  if (!map) return core.failAccess(ErrorStep.DSC_BUF, context.source, target, size, 0);
  const width = size * 8;
  const a = BigInt.asUintN(width, toBigInt(descriptor[8], descriptor[9]));
  const b = BigInt.asUintN(width, toBigInt(descriptor[10], descriptor[11]));
  const result = ATOMIC_RESULT[operation];
  const old = update(map, target, size, (m) => BigInt.asUintN(width, result(m, a, b, width)));
  core.counters.bytes += size;
  if (!returnsOld) return Outcome.DONE;

  const returnMap = context.destination?.find(returned, size, Access.WRITE);
  if (!returnMap) return core.failAccess(ErrorStep.ATOMIC, context.destination, returned, size, 1);
  update(returnMap, returned, size, () => old);
  core.counters.bytes += size;
  return Outcome.DONE;
}

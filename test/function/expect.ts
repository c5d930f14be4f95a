/** What tests of the function compare: whole error records, and everything a failing descriptor leaves behind. */
import { Reg } from '../../src/spec/index.js';
import { nop } from './ops.js';
import type { ContextPlace, Encode, Rig } from './rig.js';

export interface RecordFields {
  step: number;
  sub?: number;
  /** 0 informative, 1 context stopped, 2 function stopped. */
  re?: number;
  context?: number;
  index?: number | bigint;
  operand?: number;
}

/** An error record as ref §4.10 draws it, all 64 bytes as hex. What is not valid is 0 (S-110). */
export function record({ step, sub = 0, re = 1, context, index, operand }: RecordFields): string {
  const bytes = Buffer.alloc(64);
  bytes[0] = 1;
  bytes[1] = step;
  bytes.writeUInt16LE(0x7f7, 2);
  bytes[4] = (context === undefined ? 0 : 1) | (index === undefined ? 0 : 2) | (operand === undefined ? 0 : 4 | (operand << 4));
  bytes[5] = sub | (re << 4);
  bytes.writeUInt16LE(context ?? 0, 6);
  bytes.writeBigUInt64LE(BigInt(index ?? 0), 8);
  return bytes.toString('hex');
}

/** CXT_STS, all 16 bytes as hex. */
export function status(state: number, readIndex: number | bigint): string {
  const bytes = Buffer.alloc(16);
  bytes[0] = state;
  bytes.writeBigUInt64LE(BigInt(readIndex), 8);
  return bytes.toString('hex');
}

/** All that can be seen of a context after something went wrong with the descriptor in slot 0. */
export interface Aftermath {
  /** Every record in the log, whole. */
  records: string[];
  errWrt: bigint;
  errSts: bigint;
  interrupts: number[];
  /** CXT_STS, whole. */
  status: string;
  /** The descriptor's completion block, whole: signal, er, and 20 bytes that nobody writes. */
  csb: string;
  /** vl of the descriptor's slot. */
  valid: boolean;
  /** The three slots behind it, their completion blocks included, are byte for byte as they were. */
  laterUntouched: boolean;
  functionState: number;
}

export const CSB = {
  armed: '01'.padEnd(64, '0'),
  done: ''.padEnd(64, '0'),
  failed: `${'00'.repeat(11)}80`.padEnd(64, '0'),
} as const;

const LATER = 3;

/** Queues one descriptor that is given the address of CSB 0, and three valid ones behind it. Does not run. */
export function queueWithFollowers(rig: Rig, p: ContextPlace, encode: (csb: number) => Encode): () => Aftermath {
  const followers = Array.from({ length: LATER }, (_, i) => nop({ csb: rig.csb(p, i + 1) }));
  const csb = rig.csb(p, 0);
  const first = rig.queue(p, encode(csb), ...followers);
  const before = rig.hex(rig.slot(p, first + 1), 64 * LATER) + rig.hex(p.csbs + 32, 32 * LATER);
  return () => ({
    records: rig.records(),
    errWrt: rig.reg(Reg.ERR_WRT),
    errSts: rig.reg(Reg.ERR_STS),
    interrupts: [...rig.interrupts],
    status: rig.hex(p.status, 16),
    csb: rig.hex(csb, 32),
    valid: rig.isValid(p, first),
    laterUntouched: rig.hex(rig.slot(p, first + 1), 64 * LATER) + rig.hex(p.csbs + 32, 32 * LATER) === before,
    functionState: rig.fn.state,
  });
}

/** {@link queueWithFollowers}, then runs until nothing is left to do. */
export function provoke(rig: Rig, p: ContextPlace, encode: (csb: number) => Encode): Aftermath {
  const look = queueWithFollowers(rig, p, encode);
  rig.drain();
  return look();
}

/** What a failed descriptor leaves (ref §6.4): one record, state ERR_FN behind it, er and signal, and nothing touched after it. */
export function failed(fields: RecordFields & { context: number }): Aftermath {
  return {
    records: [record(fields)],
    errWrt: 1n,
    errSts: 1n,
    interrupts: [0],
    status: status(0xf, 1),
    csb: CSB.failed,
    valid: false,
    laterUntouched: true,
    functionState: 2,
  };
}

/** What a failure leaves that consumes nothing (ref §6.4): slot and completion block stay as they are. */
export function notConsumed(fields: RecordFields & { context: number }, state = 0xf): Aftermath {
  return { ...failed(fields), status: status(state, 0), csb: CSB.armed, valid: true };
}

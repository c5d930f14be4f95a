import type { Rig } from './rig.js';

/**
 * What a check rests on: `requirement` on published drivers and talks, or on a decision that is nearly sure; `decision` on one of ours
 * that another function may have taken differently (ref §14: confidence L or M, or tagged [I]).
 */
export type CheckKind = 'requirement' | 'decision';

export type CheckStatus = 'passed' | 'failed' | 'skipped';

/** Choices that ref §14.3 leaves to a function. */
export type ModelOption =
  | 'initDelay'
  | 'cache'
  | 'readIndex'
  | 'reorder'
  | 'clearValid'
  | 'errlog'
  | 'strictReserved'
  | 'strictDoorbell'
  | 'ignoreChain'
  | 'vendorInfo'
  | 'pollInvalid'
  | 'qos';

/** What a function or its bus may lack; needs.ts says how that is found out. */
export type Need =
  | 'context1'
  | 'context2'
  | 'context3'
  | 'level1'
  | 'atomics'
  | 'interrupts'
  | 'rkeys'
  | 'pasid'
  | 'largeBuffers'
  | 'vfs'
  | 'noVfs';

/** One thing that a function must do. */
export interface Check {
  /** Stable: `ctl2.reads-back`. */
  readonly id: string;
  /** Part of the reference: `2 Registers`. */
  readonly section: string;
  readonly title: string;
  /** What demands it: sections, tables, O- and S-numbers. */
  readonly basis: string;
  readonly kind: CheckKind;
  /** Options of ref §14.3 that may legitimately change the outcome. */
  readonly options: readonly ModelOption[];
  readonly needs: readonly Need[];
  readonly run: (t: Rig) => void | Promise<void>;
}

/** The outcome of one check. */
export interface CheckResult {
  readonly id: string;
  readonly section: string;
  readonly title: string;
  readonly basis: string;
  readonly kind: CheckKind;
  readonly status: CheckStatus;
  /** Why it failed or was skipped. */
  readonly reason?: string;
}

/** A function that does not do what a check asks. */
export class CheckFailure extends Error {
  /** The function did not answer in time, as opposed to: answered wrongly. */
  readonly silent: boolean;

  constructor(message: string, { silent = false }: { silent?: boolean } = {}) {
    super(message);
    this.silent = silent;
  }
}

/** A check that says nothing about this function. */
export class CheckSkip extends Error {}

interface Extra {
  options?: readonly ModelOption[];
  needs?: readonly Need[];
}

type Draft = Omit<Check, 'section'>;

/** A check that rests on published sources. */
export function requirement(id: string, title: string, basis: string, run: Check['run'], { options = [], needs = [] }: Extra = {}): Draft {
  return { id, title, basis, kind: 'requirement', options, needs, run };
}

/** A check that rests on a decision of the reference. */
export function decision(id: string, title: string, basis: string, run: Check['run'], extra: Extra = {}): Draft {
  return { ...requirement(id, title, basis, run, extra), kind: 'decision' };
}

/** Checks of one part of the reference. */
export function section(name: string, ...drafts: (Draft | readonly Draft[])[]): Check[] {
  return drafts.flat().map((draft) => ({ ...(draft as Draft), section: name }));
}

function text(value: unknown): string {
  if (typeof value === 'bigint' || (typeof value === 'number' && Number.isInteger(value) && value > 9)) return `0x${value.toString(16)}`;
  return String(value);
}

/** @throws CheckFailure unless both are the same */
export function equal<T extends number | bigint | boolean | string>(actual: T, expected: T, what: string): void {
  if (actual !== expected) throw new CheckFailure(`${what} is ${text(actual)}, not ${text(expected)}`);
}

/** @throws CheckFailure unless it holds */
export function holds(condition: boolean, otherwise: string): void {
  if (!condition) throw new CheckFailure(otherwise);
}

export function skip(reason: string): never {
  throw new CheckSkip(reason);
}

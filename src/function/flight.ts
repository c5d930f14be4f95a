import { Access } from '../memory/address-space.js';
import { DESCRIPTOR_BYTES, ErrorStep } from '../spec/index.js';
import { type FunctionContext, Work } from './context.js';
import type { Core } from './core.js';
import { type Report, type Retirement, VALID } from './retire.js';

/** A descriptor that was taken from the ring and has not left it. */
export interface Taken {
  index: number;
  /** Where it lies in the ring. */
  slotAddress: number;
  readonly words: Uint32Array;
  /** Completed, while an earlier one is not. */
  done: boolean;
}

/** Descriptors of one context that are in flight at most, with option `reorder`. */
export const FLIGHT_MAX = 8;

/** The descriptors of one context that are in flight: option `reorder`, S-105. In the order of the ring. */
export class Flight {
  readonly taken: Taken[] = [];
  /** The one in execution. */
  current: Taken | undefined;
  /** What has failed: nothing new is taken then, and once nothing is in flight the context stops with these. */
  readonly reports: Report[] = [];
  private readonly spare: Taken[] = [];

  /** Takes the descriptor at dword `word` of the ring. */
  take(index: number, slotAddress: number, u32: Uint32Array, word: number, header: number): Taken {
    const entry = this.spare.pop() ?? { index: 0, slotAddress: 0, words: new Uint32Array(16), done: false };
    entry.index = index;
    entry.slotAddress = slotAddress;
    entry.done = false;
    entry.words[0] = header;
    for (let i = 1; i < 16; i++) entry.words[i] = u32[word + i];
    this.taken.push(entry);
    return entry;
  }

  /** Takes an entry out. */
  remove(position: number): void {
    this.spare.push(...this.taken.splice(position, 1));
  }

  clear(): void {
    this.spare.push(...this.taken.splice(0));
    this.current = undefined;
    this.reports.length = 0;
  }
}

/** Clears vl of a slot that a descriptor has left. @returns false after {@link Core.fail}: the slot has vanished (S-102) */
export function clearSlot(core: Core, context: FunctionContext, { slotAddress: address, words }: Taken): boolean {
  if (core.config.clearValid === 'off') return true;
  const covered = context.ringMap.covers(address, DESCRIPTOR_BYTES, Access.WRITE);
  const map = covered ? context.ringMap : core.structure(context, address, DESCRIPTOR_BYTES, Access.WRITE);
  if (map === undefined) {
    core.failAccess(ErrorStep.DSC_GEN, core.memory.of(context.structurePasid), address, DESCRIPTOR_BYTES);
    return false;
  }
  map.store32(address, words[0] & ~VALID);
  return true;
}

/** What is in flight is given up: consumed without completion (S-86). The caller writes Read_Index. */
export function abandonFlight(core: Core, context: FunctionContext, retire: Retirement): void {
  const { flight } = context;
  if (flight === undefined) return;
  context.work = Work.NONE;
  for (const entry of core.early ? [] : flight.taken) {
    if (!entry.done) clearSlot(core, context, entry);
    retire.advance(context);
  }
  flight.taken.length = 0;
  flight.current = undefined;
}

/** What the reference knows of one context, and what it is told about it. */
import type { Failure, Spaces, Spot, Tables } from './reference.js';

/** Something that the specification does not allow. */
export class Violation extends Error {}

/** Context states (ref §4.5). */
export const RUN = 1;
export const STOPG_SW = 2;
export const STOP_FN = 4;
export const STOPG_FN = 6;
export const ERR_FN = 0xf;
export const STATES = [0, RUN, STOPG_SW, STOP_FN, STOPG_FN, ERR_FN];

/** What was seen of a context after a turn of it. */
export interface Seen {
  /** It is not in line any more: it came to rest. */
  rested: boolean;
  /** A descriptor is under way. */
  busy: boolean;
  /** The one that was under way is not any more. */
  finished: boolean;
  /** vl of a slot has been cleared. */
  cleared(spot: Spot): boolean;
}

/** A descriptor between its slices. */
export interface Busy {
  descriptor: Buffer;
  /** Looked up when it began. */
  spaces?: Spaces;
  /** Data operations: where bytes may have changed, and to what. */
  spots: (Spot & { length: number })[];
  bytes: Buffer;
  /** Something that it uses was mapped or unmapped meanwhile: how it ends is left to the function. */
  disturbed: boolean;
}

export class ReferenceContext {
  readonly number: number;
  running = false;
  idle = true;
  reload = false;
  rung = false;
  failureLogged = false;
  stop: 'none' | 'soft' | 'hard' = 'none';
  tables?: Tables;
  index = 0n;
  busy?: Busy;
  /** CXT_STS could not be written after a descriptor; the function finds out a little later (S-75). */
  lost = false;
  /** Next context of an admin range that is under way, -1: none is; and the first target that failed. */
  next = -1;
  target?: { failure: Failure; number: number };

  constructor(number: number) {
    this.number = number;
  }

  leave(): void {
    this.running = false;
    this.idle = true;
    this.rung = false;
    this.reload = false;
    this.stop = 'none';
    this.busy = undefined;
    this.lost = false;
    this.next = -1;
    this.target = undefined;
  }
}

import { Access } from '../memory/address-space.js';
import { DESCRIPTOR_BYTES, loadShared32 } from '../spec/index.js';
import type { FunctionContext } from './context.js';
import type { Core } from './core.js';
import { VALID } from './retire.js';

/** Slots that one step looks at, so that 65,536 contexts hold nobody up. */
const LOOKS_PER_STEP = 64;

/** Contexts that wait on a slot with vl = 0, which is looked at again without a doorbell: option `pollInvalid`, ref §6.2. */
export class SlotWatch {
  private readonly core: Core;
  private readonly watched: FunctionContext[] = [];
  private next = 0;

  constructor(core: Core) {
    this.core = core;
  }

  /** Whether there is something to look at. */
  get active(): boolean {
    return this.watched.length > 0;
  }

  add(context: FunctionContext): void {
    if (context.watched) return;
    context.watched = true;
    this.watched.push(context);
  }

  /** Looks at the slots, a number of them each time, and rings for those that have become valid. */
  look(ring: (number: number) => void): void {
    const { watched } = this;
    for (let looks = Math.min(watched.length, LOOKS_PER_STEP); looks > 0; looks--) {
      if (this.next >= watched.length) this.next = 0;
      const context = watched[this.next];
      const waits = context.running && context.idle;
      // A doorbell beyond max_cxt would not be heard either (S-71).
      const heard = context.number <= this.core.registers.maxContext;
      if (waits && !(heard && this.isValid(context))) {
        this.next++;
        continue;
      }
      watched[this.next] = watched[watched.length - 1];
      watched.pop();
      context.watched = false;
      if (waits) ring(context.number);
    }
  }

  clear(): void {
    for (const context of this.watched) context.watched = false;
    this.watched.length = 0;
  }

  /** A slot that cannot be read is waited for like one that is not valid: looking ahead reports nothing (S-77). */
  private isValid(context: FunctionContext): boolean {
    const address = context.ring + context.slot * DESCRIPTOR_BYTES;
    const { ringMap } = context;
    const map = ringMap.covers(address, 4, Access.READ) ? ringMap : this.core.structure(context, address, 4, Access.READ);
    return map !== undefined && (loadShared32(map.u32, map.word(address)) & VALID) !== 0;
  }
}

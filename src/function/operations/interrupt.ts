import { raiseByKey } from '../access.js';
import type { FunctionContext } from '../context.js';
import { type Core, Outcome } from '../core.js';

/** INTR, SDXI 1.0 table 6-12, ref §5.5: the message is sent before the descriptor's own signal changes (S-74). */
export function interrupt(core: Core, context: FunctionContext): Outcome {
  return raiseByKey(core, context, context.descriptor[3] & 0xffff) ? Outcome.DONE : Outcome.FAILED;
}

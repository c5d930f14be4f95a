import { AdminOp, DescriptorType, DmaOp, ErrorStep, IntrOp, SubStep, TWO32 } from '../spec/index.js';
import { type FunctionContext, Work } from './context.js';
import { type Core, Outcome } from './core.js';
import { type AdminHost, administer } from './operations/admin.js';
import { ATOMIC_RESULT, atomic } from './operations/atomic.js';
import { copy, copySlice, fillSlice, repcopy, SLICE_BYTES, writeImmediate } from './operations/dma.js';
import { interrupt } from './operations/interrupt.js';
import { descriptorHasReserved } from './reserved.js';

const CHAINED = 0x8;

/** Type and subtype as they stand in bits 26:8 of dword 0. */
function code(type: number, subtype: number): number {
  return (type << 8) | subtype;
}

const NOP = code(DescriptorType.DMAB, DmaOp.NOP);
const WRT_IMM = code(DescriptorType.DMAB, DmaOp.WRT_IMM);
const COPY = code(DescriptorType.DMAB, DmaOp.COPY);
const REPCOPY = code(DescriptorType.DMAB, DmaOp.REPCOPY);
const INTR = code(DescriptorType.INTR, IntrOp.INTR);
const ADMIN_CODES = new Set<number>(Object.values(AdminOp).map((subtype) => code(DescriptorType.ADMIN, subtype)));

/**
 * Validates the header of the descriptor in `context.descriptor` and starts its operation. Ref §5.2, S-44.
 * The base group is always there, the admin group in context 0 alone, the others when their bit is in force (S-7, O-16).
 */
export function execute(core: Core, context: FunctionContext, host: AdminHost): Outcome {
  if (context.fault !== undefined) return executeFaultily(core, context, host);
  const header = context.descriptor[0];
  if ((header & CHAINED) !== 0 && core.config.ignoreChain === 'off') return core.fail(ErrorStep.DSC_GEN, SubStep.DVF);
  if (core.strict && descriptorHasReserved(context.descriptor)) return core.fail(ErrorStep.DSC_GEN, SubStep.DVF);
  const operation = (header >>> 8) & 0x7ffff;
  switch (operation) {
    case COPY:
      return copy(core, context);
    case NOP:
      return Outcome.DONE;
    case WRT_IMM:
      return writeImmediate(core, context);
    case REPCOPY:
      return repcopy(core, context);
    default:
      return executeOptional(core, context, operation, host);
  }
}

function executeOptional(core: Core, context: FunctionContext, operation: number, host: AdminHost): Outcome {
  const type = operation >>> 8;
  const subtype = operation & 0xff;
  // Who looks at Read_Index when an interrupt or a CSB of these arrives must find the descriptors before them (ref §6.3).
  if (context.unpublished > 0 && !core.writeReadIndex(context)) context.unpublished = 1;
  if (type === DescriptorType.ADMIN && context.number === 0 && ADMIN_CODES.has(operation)) return administer(core, context, subtype, host);
  if (type === DescriptorType.ATOMIC && isEnabled(context, type) && ATOMIC_RESULT[subtype]) return atomic(core, context, subtype);
  if (operation === INTR && isEnabled(context, type)) return interrupt(core, context);
  return core.fail(ErrorStep.DSC_GEN, SubStep.DVF);
}

function isEnabled(context: FunctionContext, type: number): boolean {
  return ((context.opGroups >>> type) & 1) === 1;
}

/** Goes on with the operation that is under way. */
export function resume(core: Core, context: FunctionContext, host: AdminHost): Outcome {
  switch (context.work) {
    case Work.COPY:
      return copySlice(core, context);
    case Work.FILL:
      return fillSlice(core, context);
    default:
      return administer(core, context, (context.descriptor[0] >>> 8) & 0xff, host);
  }
}

/** Half of this is moved before a COPY fails; no more, so that it is over in one turn. */
const HALF_MAX = SLICE_BYTES;

/** A descriptor as a fault plan wants it: ref §12. A hold ends where the plan has no way to hold (`reorder`). */
function executeFaultily(core: Core, context: FunctionContext, host: AdminHost): Outcome {
  const { descriptor, fault } = context;
  context.fault = undefined;
  const address = descriptor[7] * TWO32 + descriptor[6];
  switch (fault?.kind) {
    case 'fail':
      return core.fail(ErrorStep.DSC_BUF, SubStep.DAF, 1, address);
    case 'half': {
      const half = Math.min(Math.floor((descriptor[1] + 1) / 2), HALF_MAX);
      if (half === 0) return core.fail(ErrorStep.DSC_BUF, SubStep.DAF, 1, address);
      descriptor[1] = half - 1;
      const outcome = execute(core, context, host);
      return outcome === Outcome.DONE ? core.fail(ErrorStep.DSC_BUF, SubStep.DAF, 1, address + half) : outcome;
    }
    case 'error':
      return core.fail(ErrorStep.INT, SubStep.OTHER);
    case 'refuse':
      context.adminFailure = { step: ErrorStep.CXT_STS, subStep: SubStep.DVF, context: descriptor[2] & 0xffff };
      return Outcome.DONE;
    default:
      return execute(core, context, host);
  }
}

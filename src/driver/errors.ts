import { ContextError, FunctionError, type SdxiErrorCode } from '../errors.js';
import { ErrorStep, FunctionState, nameOf, SubStep } from '../spec/codes.js';

/** What an error-log record means to the program that caused it. */
interface Meaning {
  readonly code: SdxiErrorCode;
  readonly what: string;
  readonly hint: string;
}

const TABLES = 'the context tables in memory were damaged, or a bus unmapped them; recover the function';

/**
 * From (step, sub_step) to code, cause and cure: the one table between the error log and the errors of this package.
 * Rows are tried in order, `*` matches any sub-step. SDXI 1.0 §3.4, ref §8.2, §8.3.
 */
const MEANINGS: readonly (readonly [step: number, subStep: number | '*', Meaning])[] = [
  [
    ErrorStep.INT,
    '*',
    { code: 'ERR_SDXI_FUNCTION', what: 'internal error of the function', hint: 'the function itself failed; submit again, or recover it' },
  ],
  [
    ErrorStep.DSC_AKEY,
    '*',
    {
      code: 'ERR_SDXI_KEY',
      what: 'the access key cannot be used',
      hint: 'use key 0, or one that this context has allocated; after changing a key, update it',
    },
  ],
  [
    ErrorStep.FN_RKEY,
    '*',
    {
      code: 'ERR_SDXI_KEY',
      what: 'the target function has not consented',
      hint: 'the target needs an RKey entry for this function, with the same PASID, and must be active in the same group',
    },
  ],
  [
    ErrorStep.ATOMIC,
    '*',
    {
      code: 'ERR_SDXI_ATOMIC',
      what: 'the old value cannot be returned',
      hint: 'the target was changed; the return address must be mapped and writable',
    },
  ],
  [
    ErrorStep.DSC_BUF,
    SubStep.ATF,
    {
      code: 'ERR_SDXI_TRANSLATION',
      what: 'the buffer is not mapped for this function',
      hint: 'register the memory first (mover.register) and keep it registered until the work is done, or check the IOMMU domain',
    },
  ],
  [
    ErrorStep.DSC_BUF,
    SubStep.DAF,
    {
      code: 'ERR_SDXI_DATA_ACCESS',
      what: 'the buffer may not be accessed this way',
      hint: 'map it with the access that the operation needs (read, write)',
    },
  ],
  [
    ErrorStep.DSC_GEN,
    SubStep.DVF,
    {
      code: 'ERR_SDXI_VALIDATION',
      what: 'the function refuses the descriptor',
      hint: 'unknown or disabled operation, size beyond the limit, or a field that must be zero; see the limits in driver.capabilities',
    },
  ],
  [
    ErrorStep.DSC_GEN,
    SubStep.ATF,
    { code: 'ERR_SDXI_TRANSLATION', what: 'the ring slot is not mapped', hint: 'keep the ring mapped, readable and writable' },
  ],
  [
    ErrorStep.DSC_GEN,
    SubStep.DAF,
    { code: 'ERR_SDXI_DATA_ACCESS', what: 'the ring slot cannot be accessed', hint: 'keep the ring mapped, readable and writable' },
  ],
  [
    ErrorStep.DSC_CSB,
    SubStep.ATF,
    {
      code: 'ERR_SDXI_TRANSLATION',
      what: 'the completion block is not mapped',
      hint: 'keep completion blocks mapped while work is in flight',
    },
  ],
  [
    ErrorStep.DSC_CSB,
    SubStep.DAF,
    { code: 'ERR_SDXI_DATA_ACCESS', what: 'the completion block cannot be written', hint: 'map completion blocks readable and writable' },
  ],
  [
    ErrorStep.DSC_CSB,
    SubStep.DVF,
    {
      code: 'ERR_SDXI_VALIDATION',
      what: 'the function refuses the completion block',
      hint: 'completion blocks lie on 32-byte boundaries, apart from the data',
    },
  ],
  [
    ErrorStep.WRT_IDX,
    SubStep.DVF,
    { code: 'ERR_SDXI_RING', what: 'Write_Index is out of range', hint: 'producers may only add what they reserved; recover the context' },
  ],
  [
    ErrorStep.CXT_STS,
    SubStep.DVF,
    {
      code: 'ERR_SDXI_CONTEXT',
      what: 'the context is in a state that forbids it',
      hint: 'start it with resume after an error, or recover the context',
    },
  ],
  [
    ErrorStep.CXT_L2,
    SubStep.DVF,
    {
      code: 'ERR_SDXI_CONTEXT',
      what: 'there is no such context',
      hint: 'create the context first; numbers go up to capabilities.maxContext',
    },
  ],
  [ErrorStep.CXT_L1, SubStep.DVF, { code: 'ERR_SDXI_CONTEXT', what: 'there is no such context', hint: 'create the context first' }],
  [ErrorStep.CXT_CTL, SubStep.DVF, { code: 'ERR_SDXI_CONTEXT', what: 'the context control block is not valid', hint: TABLES }],
];

const UNMAPPED_STRUCTURE: Meaning = { code: 'ERR_SDXI_TRANSLATION', what: 'a structure of the context is not mapped', hint: TABLES };
const REFUSED_STRUCTURE: Meaning = { code: 'ERR_SDXI_DATA_ACCESS', what: 'a structure of the context cannot be accessed', hint: TABLES };
const UNKNOWN: Meaning = {
  code: 'ERR_SDXI_CONTEXT',
  what: 'the function stopped the context',
  hint: 'the error log has no record of it; submit the work again',
};

function meaningOf(step: number, subStep: number): Meaning {
  for (const [s, sub, meaning] of MEANINGS) if (s === step && (sub === '*' || sub === subStep)) return meaning;
  if (step === 0) return UNKNOWN;
  return subStep === SubStep.ATF ? UNMAPPED_STRUCTURE : subStep === SubStep.DAF ? REFUSED_STRUCTURE : UNKNOWN;
}

/** Where and how a context failed; `step` 0: the error log does not say. */
export interface ContextFault {
  readonly function: string;
  readonly context: number;
  readonly step: number;
  readonly subStep: number;
  /** Index (not slot) of the descriptor, when one is to blame. */
  readonly index?: number;
  /** Operand of the descriptor. */
  readonly operand?: number;
  /** DMA address of that operand. */
  readonly address?: number;
}

/** The error of a fault. Fields: function, context, index, step, subStep, operand, address. */
export function contextError(fault: ContextFault): ContextError {
  const { what, code, hint } = meaningOf(fault.step, fault.subStep);
  const step = fault.step === 0 ? undefined : nameOf(ErrorStep, fault.step);
  const subStep = fault.step === 0 ? undefined : nameOf(SubStep, fault.subStep);
  const where = fault.index === undefined ? '' : `, descriptor ${fault.index}`;
  const which =
    fault.operand === undefined
      ? ''
      : `, operand ${fault.operand}${fault.address === undefined ? '' : ` at 0x${fault.address.toString(16)}`}`;
  const code2 = step === undefined ? '' : ` (${step}/${subStep})`;
  return new ContextError(code, `${fault.function}/cxt${fault.context}${where}${which}: ${what}${code2}`, {
    hint,
    fields: {
      function: fault.function,
      context: fault.context,
      index: fault.index,
      step,
      subStep,
      operand: fault.operand,
      address: fault.address,
    },
  });
}

/** The function left its working state, or never reached it. */
export function functionError(name: string, state: number, what: string): FunctionError {
  return new FunctionError(`${name}: ${what} (state ${nameOf(FunctionState, state)})`, {
    hint: 'recover the function (driver.recover) or close it and open it again; work that was in flight must be submitted again',
    fields: { function: name, state: nameOf(FunctionState, state) },
  });
}

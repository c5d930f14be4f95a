import type { Tracer } from '../../src/observe/tracer.js';
import { ContextState, ErrorStep, nameOf, SubStep } from '../../src/spec/index.js';
import { FuzzFailure } from './memory.js';

/** How deep the fuzzer has come: counted where a case has a tracer. */
export class Coverage {
  readonly done: Record<string, number> = {};
  readonly failed: Record<string, number> = {};
  readonly records: Record<string, number> = {};
  readonly functionStates: Record<string, number> = {};
  readonly contextStates: Record<string, number> = {};

  add(other: Pick<Coverage, 'done' | 'failed' | 'records' | 'functionStates' | 'contextStates'>): void {
    for (const part of ['done', 'failed', 'records', 'functionStates', 'contextStates'] as const) {
      for (const [key, count] of Object.entries(other[part])) this[part][key] = (this[part][key] ?? 0) + count;
    }
  }
}

const CONTEXT_STATES = new Set<number>(Object.values(ContextState));

const bump = (counts: Record<string, number>, key: string): void => {
  counts[key] = (counts[key] ?? 0) + 1;
};

/** A tracer that counts, and looks at what the function says. */
export function covering(coverage: Coverage): Tracer {
  const operations = new Map<string, string>();
  return {
    registerRead() {},
    registerWrite() {},
    doorbell() {},
    functionState: (state) => {
      if (state < 0 || state > 5) throw new FuzzFailure(`the function is in state ${state}`);
      bump(coverage.functionStates, String(state));
    },
    contextState: (context, state) => {
      if (!CONTEXT_STATES.has(state)) throw new FuzzFailure(`context ${context} is in state ${state}`);
      bump(coverage.contextStates, String(state));
    },
    descriptor: (context, index, bytes) => {
      const header = bytes[1] | (bytes[2] << 8) | (bytes[3] << 16);
      const name = `${((header >>> 8) & 0x7ff).toString(16)}/${(header & 0xff).toString(16)}`;
      operations.set(`${context}:${index}`, /^[1-4]\/.$/.test(name) ? name : 'other');
      if (operations.size > 50_000) operations.clear();
    },
    completion: (context, index, error) => {
      const key = `${context}:${index}`;
      bump(error ? coverage.failed : coverage.done, operations.get(key) ?? 'plain');
      operations.delete(key);
    },
    interrupt() {},
    errorRecord: (record) => {
      const view = new DataView(record.buffer, record.byteOffset, 64);
      const first = view.getUint32(0, true);
      const second = view.getUint32(4, true);
      const step = (first >>> 8) & 0xff;
      const subStep = (second >>> 8) & 0xf;
      if ((first & 1) !== 1 || ((first >>> 16) & 0x7ff) !== 0x7f7 || step === 0 || step > 15) {
        throw new FuzzFailure(`an error record begins with ${first.toString(16)} ${second.toString(16)}`);
      }
      bump(coverage.records, `${nameOf(ErrorStep, step) ?? step}/${nameOf(SubStep, subStep) ?? subStep}`);
    },
  };
}

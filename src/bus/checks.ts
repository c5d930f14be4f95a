import { ArgumentError } from '../errors.js';
import type { WaitOptions } from './bus.js';

/** What every bus refuses before it asks the function: arguments that name nothing. */

const REGISTER_MAX = 2n ** 64n - 1n;

/** @throws ArgumentError unless 8 bytes at `offset` lie in the region */
export function checkOffset(offset: number, byteLength: number, region: string): void {
  if (!Number.isInteger(offset) || offset < 0 || offset + 8 > byteLength) {
    throw new ArgumentError(`there are no 8 bytes at offset ${offset} of the ${region}`, {
      hint: `the ${region} have ${byteLength} bytes`,
      fields: { offset, byteLength },
    });
  }
}

/** @throws ArgumentError unless the value has 64 bits */
export function checkRegisterValue(value: bigint): void {
  if (typeof value !== 'bigint' || value < 0n || value > REGISTER_MAX) {
    throw new ArgumentError(`a register cannot hold ${String(value)}`, { hint: 'give a bigint of 0 … 2^64 - 1', fields: { value } });
  }
}

/** @throws ArgumentError unless the value is a Write_Index below 2^53 (S-103) */
export function checkDoorbellValue(value: number): void {
  if (!Number.isSafeInteger(value) || value < 0) {
    throw new ArgumentError(`a doorbell cannot be written with ${String(value)}`, {
      hint: 'give the Write_Index, a whole number below 2^53',
      fields: { value },
    });
  }
}

/** @throws ArgumentError unless the vector exists */
export function checkVector(vector: number, vectors: number): void {
  if (!Number.isInteger(vector) || vector < 0 || vector >= vectors) {
    throw new ArgumentError(`there is no interrupt vector ${vector}`, {
      hint: `this bus has vectors 0 … ${vectors - 1}`,
      fields: { vector },
    });
  }
}

const MODES: readonly unknown[] = ['adaptive', 'polled', 'interrupt', undefined];

/** @throws ArgumentError for a timeout that is no duration, a vector or a mode that does not exist */
export function checkWait(options: WaitOptions, vectors: number): void {
  const { timeoutMs, vector, mode } = options;
  if (typeof timeoutMs !== 'number' || !(timeoutMs >= 0)) {
    throw new ArgumentError(`cannot wait for ${String(timeoutMs)} ms`, { hint: 'timeoutMs is 0 or more', fields: { timeoutMs } });
  }
  if (vector !== undefined) checkVector(vector, vectors);
  if (!MODES.includes(mode))
    throw new ArgumentError(`there is no way to wait called ${String(mode)}`, { hint: 'mode is adaptive, polled or interrupt' });
}

import { accessSync, constants, statSync } from 'node:fs';
import { InvalidArgumentError, Option } from 'commander';
import { ArgumentError } from '../errors.js';

const UNITS: Readonly<Record<string, number>> = { '': 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 };

/** Bytes as people write them: `64`, `4k`, `1m`, `4g`, `4KiB`, `0x1000`; powers of two. @throws InvalidArgumentError */
export function parseSize(text: string): number {
  const match = /^(?:(0x[0-9a-f]+)|(\d+)([kmgt]?)(?:i?b)?)$/i.exec(text.trim());
  const value = match ? (match[1] ? Number(match[1]) : Number(match[2]) * UNITS[match[3].toLowerCase()]) : Number.NaN;
  if (!Number.isSafeInteger(value) || value < 1) {
    throw new InvalidArgumentError('Give a number of bytes from 1 up, with k, m or g for the powers of two: 64, 4k, 1m, 4g.');
  }
  return value;
}

/** A list of sizes, comma-separated. @throws InvalidArgumentError */
export function parseSizes(text: string): number[] {
  return items(text).map(parseSize);
}

/** A parser of whole numbers in a range. */
export function integerIn(low: number, high: number): (text: string) => number {
  return (text) => {
    const value = /^\d+$/.test(text.trim()) ? Number(text) : Number.NaN;
    if (!(value >= low && value <= high)) throw new InvalidArgumentError(`Give a whole number from ${low} to ${high}.`);
    return value;
  };
}

/** A parser of comma-separated whole numbers in a range. */
export function integersIn(low: number, high: number): (text: string) => number[] {
  const one = integerIn(low, high);
  return (text) => items(text).map(one);
}

/** The path of a file that can be read. @throws ArgumentError */
export function existingFile(path: string): string {
  try {
    accessSync(path, constants.R_OK);
    if (!statSync(path).isDirectory()) return path;
  } catch (cause) {
    throw new ArgumentError(`cannot read ${path}`, { cause, hint: 'name a file that exists and that you may read', fields: { path } });
  }
  throw new ArgumentError(`${path} is a directory`, { hint: 'name a file', fields: { path } });
}

/** A parser of comma-separated names out of a list. */
export function namesOf<const T extends string>(valid: readonly T[]): (text: string) => T[] {
  return (text) =>
    items(text).map((item) => {
      const name = valid.find((one) => one === item.trim());
      if (name === undefined) throw new InvalidArgumentError(`Give one or several of: ${valid.join(', ')}.`);
      return name;
    });
}

function items(text: string): string[] {
  const parts = text.split(',').filter((part) => part.trim() !== '');
  if (parts.length === 0) throw new InvalidArgumentError('Give one value, or several with commas between them.');
  return parts;
}

/** `--corrupt`: for whoever wants to see that a check finds what it is there for. */
export function corruptOption(): Option {
  return new Option('--corrupt <what>', 'flip one bit after the work and before the check, to see that the check finds it').choices([
    'data',
    'guard',
  ]);
}

/** An option that may be given several times, each time with one value. */
export const repeatable = (flags: string, description: string): Option =>
  new Option(flags, `${description}; may be given again`)
    .argParser((value: string, before: string[]) => [...before, value])
    .default([], 'none');

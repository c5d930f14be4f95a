/** `npm run fuzz:messages -- --messages N --seed S`: so many mutated messages to a served function. */
import { parseArgs } from 'node:util';
import { randomSeed } from '../../src/prng.js';
import { MessageFuzz, shallow } from './messages.js';

/** Runs of this length have to have seen everything. */
const DEPTH_MESSAGES = 200_000;

function number(name: string, text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 0) return value;
  console.error(`fuzz: --${name} cannot be ${text}\n  hint: a whole number, 0 or more`);
  process.exit(2);
}

const { values } = parseArgs({ options: { messages: { type: 'string', default: '1000000' }, seed: { type: 'string' } } });
const seed = values.seed === undefined ? randomSeed() : number('seed', values.seed);
const messages = number('messages', values.messages);
const from = performance.now();
try {
  const report = await MessageFuzz.run({ messages, seed });
  const seconds = (performance.now() - from) / 1000;
  console.log(
    JSON.stringify({ seed, seconds: Number(seconds.toFixed(1)), perSecond: Math.round(report.mutated / seconds), ...report }, null, 1),
  );
  const missing = messages >= DEPTH_MESSAGES ? shallow(report) : [];
  if (missing.length > 0) throw new Error(`not deep enough: ${missing.join('; ')}`);
} catch (error) {
  console.error(`fuzz: ${(error as Error).stack}`);
  console.error(`fuzz: again with: npm run fuzz:messages -- --messages ${messages} --seed ${seed}`);
  process.exitCode = 1;
}

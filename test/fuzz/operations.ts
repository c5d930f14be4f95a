import type { Prng } from '../../src/prng.js';
import { AdminOp, AtomicOp, DescriptorType, DmaOp } from '../../src/spec/index.js';
import { CONTEXTS, DATA, DATA_END, type Member, VECTORS } from './member.js';

const ATOMICS = Object.values(AtomicOp);
const ADMINS = Object.values(AdminOp);
/** What a descriptor is made from. */
interface Asks {
  readonly random: Prng;
  readonly member: Member;
  wrong(): boolean;
}

/** Keys by how much they are used: mostly the default translation. */
/** Those that mostly work. */
const SOUND = [1, 3, 7];
const KEYS = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 3, 6, 7, 4, 5];

/** One descriptor into `words`, vl set. @param trouble out of 1000: how often a part of it is one that asks for an error */
export function randomDescriptor(words: Uint32Array, random: Prng, member: Member, context: number, trouble: number): void {
  words.fill(0);
  const asks = { random, member, wrong: () => random.below(1000) < trouble };
  if (asks.wrong()) {
    // Anything at all.
    for (let i = 0; i < 16; i++) words[i] = random.below(3) === 0 ? random.next() : 0;
    words[0] |= 1;
    return;
  }
  const kind = random.below(100);
  if (context === 0 && kind < 50) admin(words, random);
  else if (kind < 8) header(words, DescriptorType.DMAB, DmaOp.NOP);
  else if (kind < 16) immediate(words, asks);
  else if (kind < 66) copy(words, asks);
  else if (kind < 76) fill(words, asks);
  else if (kind < 92) atomic(words, asks);
  else interrupt(words, asks);
  flags(words, asks, context);
  // Nearly right.
  if (asks.wrong()) words[random.below(16)] ^= 1 << random.below(32);
  words[0] |= 1;
}

function header(words: Uint32Array, type: number, subtype: number): void {
  words[0] = (type << 16) | (subtype << 8);
}

function flags(words: Uint32Array, asks: Asks, context: number): void {
  const { random, member } = asks;
  if (random.below(4) === 0) words[0] |= 4; // fe
  if (random.below(8) === 0) words[0] |= 2; // se
  if (random.below(8) === 0) words[0] |= 0x10; // csr
  if (asks.wrong()) words[0] |= 8; // ch
  if (random.below(2) === 0) {
    words[14] = 1;
    return;
  }
  pointer(words, 14, asks.wrong() ? wild(asks) - (wild(asks) % 32) : member.block(context));
}

function pointer(words: Uint32Array, at: number, address: number): void {
  words[at] = address >>> 0;
  words[at + 1] = Math.floor(address / 2 ** 32);
}

function size({ random, wrong }: Asks): number {
  const kind = random.below(100);
  if (kind < 50) return 1 + random.below(256);
  if (kind < 75) return 8 * (1 + random.below(64));
  if (kind < 96) return 1 + random.below(8192);
  if (kind < 99 || !wrong()) return 1 + random.below(0x3_0000);
  return 1 + random.below(2 ** 32);
}

/** Mostly where data lies; now and then a structure, the upper half, or nowhere. */
function wild({ random, member, wrong }: Asks): number {
  // Far enough from the end for most sizes.
  if (!wrong()) return member.base + DATA + random.below(DATA_END - DATA - 0x4000);
  const kind = random.below(60);
  if (kind < 30) return member.base + DATA_END - random.below(0x4000);
  if (kind < 50) return member.base + random.below(0x20_0000);
  if (kind < 59) return random.next() * 2 ** random.below(22) + random.below(4096);
  return 2 ** 53 - random.below(0x1_0000);
}

function keys(words: Uint32Array, { random, wrong }: Asks): void {
  const key = () => (wrong() ? KEYS[random.below(KEYS.length)] : random.below(20) === 0 ? SOUND[random.below(SOUND.length)] : 0);
  const first = key();
  words[3] = first | ((random.below(3) === 0 ? key() : first) << 16);
}

function copy(words: Uint32Array, asks: Asks): void {
  const { random } = asks;
  header(words, DescriptorType.DMAB, DmaOp.COPY);
  words[1] = size(asks) - 1;
  keys(words, asks);
  const from = wild(asks);
  pointer(words, 4, from);
  pointer(words, 6, random.below(10) === 0 ? from + random.below(512) : wild(asks));
}

function fill(words: Uint32Array, asks: Asks): void {
  const { random } = asks;
  header(words, DescriptorType.DMAB, DmaOp.REPCOPY);
  words[1] = size(asks) - 1;
  keys(words, asks);
  const from = wild(asks);
  pointer(words, 4, random.below(8) === 0 ? from : from - (from % 4096));
  pointer(words, 6, wild(asks));
}

function immediate(words: Uint32Array, asks: Asks): void {
  const { random } = asks;
  header(words, DescriptorType.DMAB, DmaOp.WRT_IMM);
  words[1] = asks.wrong() ? random.below(64) : random.below(32);
  keys(words, asks);
  pointer(words, 4, wild(asks));
  for (let i = 6; i < 14; i++) words[i] = random.next();
}

function atomic(words: Uint32Array, asks: Asks): void {
  const { random } = asks;
  header(words, DescriptorType.ATOMIC, ATOMICS[random.below(ATOMICS.length)]);
  const width = random.below(2) === 0 ? 4 : 8;
  words[1] = width - 1;
  if (random.below(2) === 0) words[2] = 0x100; // rd
  keys(words, asks);
  const aligned = (address: number) => (asks.wrong() ? address : address - (address % width));
  pointer(words, 4, aligned(wild(asks)));
  pointer(words, 6, aligned(wild(asks)));
  for (let i = 8; i < 12; i++) words[i] = random.below(2) === 0 ? random.next() : random.below(4);
}

function interrupt(words: Uint32Array, { random, wrong }: Asks): void {
  header(words, DescriptorType.INTR, 0);
  words[3] = wrong() ? KEYS[random.below(KEYS.length)] : 1;
}

function admin(words: Uint32Array, random: Prng): void {
  header(words, DescriptorType.ADMIN, ADMINS[random.below(ADMINS.length)]);
  const first = random.below(CONTEXTS);
  const last = random.below(8) === 0 ? random.below(0x1_0000) : random.below(2) === 0 ? first : random.below(CONTEXTS);
  words[2] = first | (last << 16);
  words[3] = random.below(4) === 0 ? random.below(VECTORS) : random.below(8) | (random.below(256) << 16);
  // SYNC's filter, CXT_UPD's levels; now and then hs, dv, vf.
  words[1] = random.below(random.below(8) === 0 ? 8 : 5) | (random.below(4) === 0 ? 0x2000 : 0) | (random.below(8) === 0 ? 0x4000 : 0);
  if (random.below(40) === 0) words[1] |= 0x8000;
}

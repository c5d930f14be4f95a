/**
 * What the engine threads of one fabric tell each other about their functions: two cache lines a member in one small
 * SharedArrayBuffer. The first is written by the member's engine whenever what others may rely on has changed, the second
 * whenever it begins or ends a step.
 */
import { FunctionState } from '../spec/codes.js';

/** Functions that a fabric can have. */
export const MEMBERS_MAX = 64;

/** What a member shows: the numbers of a `Peer`. */
export interface Notice {
  sfunc: number;
  groupId: number;
  state: number;
  epoch: number;
  rkeysUsable: boolean;
  rkeyTable: number;
  rkeyCount: number;
  functionPasid: number;
  probing: boolean;
}

const LINE = 16;
const MEMBER_WORDS = 2 * LINE;

// Words of the first line. An odd VERSION says that the others are being written.
const VERSION = 0;
const STATE = 1;
const EPOCH = 2;
const SFUNC = 3;
const GROUP = 4;
const RKEYS_USABLE = 5;
const RKEY_COUNT = 6;
const RKEY_TABLE_LOW = 7;
const RKEY_TABLE_HIGH = 8;
const FUNCTION_PASID = 9;
const PROBING = 10;
/** A notice is written within a microsecond. */
const LOOKS_MAX = 1_000_000;
/** Word of the second line: odd while the engine is in a step, another number in each. */
const STEP = LINE;

/** One view of the board. */
export class Board {
  readonly buffer: SharedArrayBuffer;
  readonly words: Int32Array;

  constructor(buffer = new SharedArrayBuffer(MEMBERS_MAX * MEMBER_WORDS * 4)) {
    this.buffer = buffer;
    this.words = new Int32Array(buffer);
  }

  /** Dword that changes when a member ends its step, to wait on. */
  stepWord(member: number): number {
    return member * MEMBER_WORDS + STEP;
  }

  state(member: number): FunctionState {
    return Atomics.load(this.words, member * MEMBER_WORDS + STATE) as FunctionState;
  }

  epoch(member: number): number {
    return Atomics.load(this.words, member * MEMBER_WORDS + EPOCH);
  }

  /** Writes a member's notice; its engine alone does. */
  publish(member: number, notice: Readonly<Notice>): void {
    const { words } = this;
    const at = member * MEMBER_WORDS;
    Atomics.add(words, at + VERSION, 1);
    Atomics.store(words, at + STATE, notice.state);
    Atomics.store(words, at + EPOCH, notice.epoch | 0);
    Atomics.store(words, at + SFUNC, notice.sfunc);
    Atomics.store(words, at + GROUP, notice.groupId | 0);
    Atomics.store(words, at + RKEYS_USABLE, notice.rkeysUsable ? 1 : 0);
    Atomics.store(words, at + RKEY_COUNT, notice.rkeyCount);
    Atomics.store(words, at + RKEY_TABLE_LOW, notice.rkeyTable | 0);
    Atomics.store(words, at + RKEY_TABLE_HIGH, Math.floor(notice.rkeyTable / 2 ** 32) | 0);
    Atomics.store(words, at + FUNCTION_PASID, notice.functionPasid);
    Atomics.store(words, at + PROBING, notice.probing ? 1 : 0);
    Atomics.add(words, at + VERSION, 1);
  }

  /** Reads a member's notice, all of one moment. */
  read(member: number, into: Notice): void {
    const { words } = this;
    const at = member * MEMBER_WORDS;
    const word = (field: number) => Atomics.load(words, at + field);
    for (let looks = 0; looks < LOOKS_MAX; looks++) {
      const version = word(VERSION);
      if ((version & 1) !== 0) continue; // a dozen stores
      into.state = word(STATE);
      into.epoch = word(EPOCH);
      into.sfunc = word(SFUNC);
      into.groupId = word(GROUP) >>> 0;
      into.rkeysUsable = word(RKEYS_USABLE) !== 0;
      into.rkeyCount = word(RKEY_COUNT);
      into.rkeyTable = (word(RKEY_TABLE_HIGH) >>> 0) * 2 ** 32 + (word(RKEY_TABLE_LOW) >>> 0);
      into.functionPasid = word(FUNCTION_PASID);
      into.probing = word(PROBING) !== 0;
      if (word(VERSION) === version) return;
    }
    into.groupId = 0; // its engine died in the middle of this: in no group, nobody finds it
  }

  /** A member's engine begins a step, or ends it: between the two it may use what it has read here. */
  turnStep(member: number): void {
    Atomics.add(this.words, member * MEMBER_WORDS + STEP, 1);
  }

  /** Odd while the member is in a step. */
  step(member: number): number {
    return Atomics.load(this.words, member * MEMBER_WORDS + STEP);
  }

  /** A place is given to a new member, before its engine starts. */
  clear(member: number, sfunc: number, groupId: number): void {
    this.words.fill(0, member * MEMBER_WORDS, (member + 1) * MEMBER_WORDS);
    this.publish(member, {
      sfunc,
      groupId,
      state: FunctionState.STOP,
      epoch: 0,
      rkeysUsable: false,
      rkeyTable: 0,
      rkeyCount: 0,
      functionPasid: -1,
      probing: false,
    });
  }
}

/** Random programs for functions of which nobody can foretell the memory after each turn, and what holds in any case. */
import fc from 'fast-check';
import { expect } from 'vitest';
import type { FunctionConfig } from '../../../src/function/config.js';
import { SdxiFunction } from '../../../src/function/function.js';
import { ContextState, FunctionState, Reg } from '../../../src/spec/index.js';
import {
  akeyUpdate,
  atomic,
  contextUpdate,
  copy,
  FLAG,
  functionUpdate,
  interrupt,
  nop,
  repcopy,
  start,
  stop,
  sync,
  writeImmediate,
} from '../ops.js';
import { type ContextPlace, type Encode, LAYOUT, Rig } from '../rig.js';

const SOURCE = LAYOUT.data;
const SOURCE_BYTES = 0x8_0000;
const AREA = 0x8_0000;
const GUARD = 24;
/** Far above what can be taken from it, so that each decrement is counted. */
const SIGNAL = 0x1000n;
export const CONTEXTS = 3;
/** AKey entry for interrupts. */
const INTR_KEY = 5;

interface Op {
  kind: 'copy' | 'repcopy' | 'imm' | 'add' | 'intr' | 'nop' | 'bad';
  size: number;
  from: number;
  flags: number;
}

export type Event =
  | { kind: 'submit'; context: number; ops: Op[]; hole: number }
  | { kind: 'fill'; context: number }
  | { kind: 'step'; budget: number }
  | { kind: 'stopContext'; context: number; hard: boolean }
  | { kind: 'stopFunction'; hard: boolean; steps: number }
  | { kind: 'update'; what: number }
  | { kind: 'move'; hard: boolean; steps: number }
  | { kind: 'sync'; filter: number }
  | { kind: 'range'; from: number }
  /** @see World.freeze */
  | { kind: 'freeze'; steps: number; budget: number; twice: boolean; back: boolean };

const op: fc.Arbitrary<Op> = fc.record({
  kind: fc.constantFrom('copy', 'copy', 'copy', 'repcopy', 'imm', 'add', 'intr', 'nop', 'nop', 'bad'),
  size: fc.oneof(
    { weight: 12, arbitrary: fc.integer({ min: 1, max: 300 }) },
    { weight: 2, arbitrary: fc.constantFrom(4096, 9000) },
    { weight: 1, arbitrary: fc.constant(270_000) },
  ),
  from: fc.nat(SOURCE_BYTES - 270_000),
  flags: fc.oneof({ weight: 6, arbitrary: fc.constant(0) }, { weight: 1, arbitrary: fc.constantFrom(FLAG.FE, FLAG.RB, FLAG.SE) }),
});

const context = fc.integer({ min: 1, max: CONTEXTS });
export const event: fc.Arbitrary<Event> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      kind: fc.constant('submit' as const),
      context,
      ops: fc.array(op, { minLength: 1, maxLength: 20, size: 'max' }),
      hole: fc.oneof({ weight: 3, arbitrary: fc.constant(-1) }, { weight: 1, arbitrary: fc.nat(19) }),
    }),
  },
  { weight: 12, arbitrary: fc.record({ kind: fc.constant('step' as const), budget: fc.integer({ min: 1, max: 12 }) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('fill' as const), context }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('stopContext' as const), context, hard: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('stopFunction' as const), hard: fc.boolean(), steps: fc.nat(3) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('update' as const), what: fc.nat(2) }) },
);

export const options: fc.Arbitrary<Partial<FunctionConfig>> = fc.record({
  cache: fc.constantFrom('none', 'start', 'sticky'),
  readIndex: fc.constantFrom('late', 'early'),
  reorder: fc.constantFrom('off', 'on', 'on'),
  seed: fc.nat(),
  strictReserved: fc.constantFrom('off', 'on'),
  pollInvalid: fc.constantFrom('off', 'on'),
  qos: fc.constantFrom('off', 'on'),
});

/** One descriptor as software knows it. */
interface Sent {
  op: Op;
  csb: number;
  /** Bytes that it writes, and what they are then. */
  target: number;
  bytes: Uint8Array;
  /** It was in the ring when a hard stop came. */
  excused: boolean;
}

interface Producer {
  place: ContextPlace;
  sent: Sent[];
  /** A slot that is claimed and not written. */
  hole: { index: number; encode: Encode } | undefined;
  free: number;
  readIndex: number;
  /** A CXT_STOP with hs = 1 is on its way: it may meet whatever is queued until then. */
  hard: boolean;
}

export class World {
  rig: Rig;
  private readonly config: Partial<FunctionConfig>;
  private readonly admin: ContextPlace;
  private readonly producers: Producer[];
  private readonly model: Buffer;

  constructor(config: Partial<FunctionConfig>, sequential: number) {
    this.config = config;
    const rig = new Rig(config);
    this.rig = rig;
    for (let at = 0; at < LAYOUT.dataBytes; at++) rig.u8[rig.at(SOURCE) + at] = (at * 7 + (at >> 8) * 13) & 0xff;
    this.admin = rig.activate();
    this.producers = Array.from({ length: CONTEXTS }, (_, i) => ({
      place: rig.running(i + 1, { control: { se: (sequential >> i) & 1, qos: (i + sequential) & 3 } }),
      sent: [],
      hole: undefined,
      free: SOURCE + SOURCE_BYTES + i * AREA + GUARD,
      readIndex: 0,
      hard: false,
    }));
    for (const { place } of this.producers) rig.akey(place, INTR_KEY, { vl: 1, iv: 1, intr_num: 10 + place.number });
    this.model = rig.snapshot().subarray(rig.at(SOURCE), rig.at(SOURCE + LAYOUT.dataBytes));
  }

  /** The descriptor of an operation, with a target of its own that no other one touches. */
  private make(producer: Producer, op: Op, csb: number): { encode: Encode; sent: Sent } {
    const { rig } = this;
    const { flags, from } = op;
    const end = SOURCE + SOURCE_BYTES + producer.place.number * AREA;
    const size = op.kind === 'imm' ? Math.min(op.size, 32) : op.kind === 'add' ? 8 : op.size;
    const writes = !['nop', 'bad', 'intr'].includes(op.kind) && producer.free + size + GUARD + 8 <= end;
    const target = op.kind === 'add' ? Math.ceil(producer.free / 8) * 8 : producer.free;
    if (writes) producer.free = target + size + GUARD;
    const source = rig.bytes(SOURCE + from, Math.max(size, 4096));
    const footer = { flags, csb };
    const sent = (bytes: Uint8Array, encode: Encode) => ({ encode, sent: { op, csb, target, bytes, excused: false } });
    if (op.kind === 'intr') return sent(new Uint8Array(), interrupt(INTR_KEY, footer));
    if (op.kind === 'bad') return sent(new Uint8Array(), copy(1, target, 8, footer));
    if (!writes) return sent(new Uint8Array(), nop(footer));
    if (op.kind === 'copy') return sent(source.slice(0, size), copy(SOURCE + from, target, size, footer));
    if (op.kind === 'imm') return sent(source.slice(0, size), writeImmediate(target, source.slice(0, size), footer));
    if (op.kind === 'repcopy') {
      const bytes = Uint8Array.from({ length: size }, (_, i) => source[i % 4096]);
      return sent(bytes, repcopy(SOURCE + from, target, size, footer));
    }
    const sum = Buffer.alloc(8);
    sum.writeBigUInt64LE(BigInt.asUintN(64, rig.u64(target) + 0x0101_0101n));
    return sent(sum, atomic(0x02, 8, target, { ...footer, a: 0x0101_0101n }));
  }

  apply(event: Event): void {
    const { rig, admin } = this;
    switch (event.kind) {
      case 'submit':
        this.submit(this.producers[event.context - 1], event.ops, event.hole);
        break;
      case 'fill':
        this.fill(this.producers[event.context - 1]);
        break;
      case 'step':
        rig.fn.step(event.budget);
        break;
      case 'stopContext':
        if (event.hard) {
          this.excuse(this.producers[event.context - 1]);
          this.producers[event.context - 1].hard = true;
        }
        rig.queue(admin, stop(event.context, event.context, { hard: event.hard }));
        break;
      case 'stopFunction':
        if (event.hard) for (const producer of this.producers) this.excuse(producer);
        rig.setReg(Reg.CTL0, event.hard ? 2 : 1);
        for (let i = 0; i < event.steps; i++) rig.fn.step(1);
        rig.drain();
        expect(rig.fn.state).toBe(FunctionState.STOP);
        this.check();
        rig.setState(admin, ContextState.RUN);
        rig.setReg(Reg.CTL0, 3);
        rig.fn.ringDoorbell(0, 0);
        break;
      case 'sync':
        rig.queue(admin, sync(event.filter, 0, CONTEXTS));
        break;
      case 'range':
        rig.queue(admin, start(event.from, 63, { resume: true }));
        break;
      case 'freeze':
        this.freeze(event);
        break;
      case 'move':
        this.move(event.hard, event.steps);
        break;
      default:
        rig.queue(admin, [contextUpdate(0, 63, { cflags: 7 }), akeyUpdate(0, 63, [0, 255]), functionUpdate()][event.what]);
    }
    this.check();
  }

  /** The function stops, and another one over the same memory goes on from its snapshot, as ref §10 says. */
  private move(hard: boolean, steps: number): void {
    const { rig, admin } = this;
    if (hard) for (const producer of this.producers) this.excuse(producer);
    rig.setReg(Reg.CTL0, hard ? 2 : 1);
    for (let i = 0; i < steps; i++) rig.fn.step(1);
    rig.drain();
    expect(rig.fn.state).toBe(FunctionState.STOP);
    this.check();
    // What had not been taken runs yet, after a hard stop too: Read_Index says which (S-86).
    for (const { place, sent, hard: later } of this.producers)
      for (const descriptor of sent.slice(rig.readIndex(place))) descriptor.excused = later;
    const before = rig.snapshot();
    const json = JSON.stringify(rig.fn.snapshot());
    const interrupts = { vectors: 66, raise: (vector: number) => rig.interrupts.push(vector) };
    const fn = new SdxiFunction(this.config, { memory: rig.memory, interrupts });
    fn.restore(JSON.parse(json));
    expect(JSON.stringify(fn.snapshot())).toBe(json);
    expect(fn.step(64)).toBe(0);
    expect(Buffer.compare(before, rig.snapshot())).toBe(0);
    this.rig = Object.assign(Object.create(rig) as Rig, { fn });
    this.rig.setReg(Reg.CTL0, 3);
    expect(fn.state).toBe(FunctionState.ACTIVE);
    // RUN: it had not been loaded since the last time (S-79).
    expect([ContextState.STOP_FN, ContextState.RUN]).toContain(rig.state(admin));
    rig.setState(admin, ContextState.RUN);
    fn.ringDoorbell(0, Number(rig.u64(admin.writeIndex)));
    for (const { place } of this.producers) {
      // Those alone: who had failed or was stopped stays so.
      if (rig.state(place) === ContextState.STOP_FN) this.rig.queue(admin, start(place.number, place.number, { resume: true }));
    }
  }

  /**
   * The function is frozen after some steps, and another one, over a copy of the memory, goes on; of the first one nothing is left.
   * `back`: the move fails, and the first one goes on. `twice`: it moves on before it has thawed.
   */
  private freeze({ steps, budget, twice, back }: Event & { kind: 'freeze' }): void {
    for (let i = 0; i < steps; i++) this.rig.fn.step(1);
    for (let hop = twice ? 2 : 1; hop > 0; hop--) {
      const { rig } = this;
      const { state } = rig.fn;
      for (let i = 0; !rig.fn.freeze(budget); i++) if (i > 100_000) throw new Error('the function does not come to rest');
      expect(rig.fn.state).toBe(state);
      const still = rig.snapshot();
      const json = JSON.stringify(rig.fn.snapshot());
      expect([rig.fn.step(64), rig.fn.freeze(1), rig.fn.polls]).toEqual([0, true, false]);
      expect(Buffer.compare(still, rig.snapshot())).toBe(0);
      this.check();
      if (back) continue;
      const other = new Rig(this.config);
      other.u8.set(rig.u8);
      other.interrupts.push(...rig.interrupts);
      rig.u8.fill(0xee);
      other.fn.restore(JSON.parse(json));
      expect(JSON.stringify(other.fn.snapshot())).toBe(json);
      expect(other.fn.state).toBe(state);
      this.rig = other;
    }
    this.rig.fn.thaw();
  }

  private submit(producer: Producer, ops: Op[], hole: number): void {
    const { rig } = this;
    const { place } = producer;
    const count = Math.min(ops.length, 120 - producer.sent.length);
    const first = rig.claim(place, count);
    producer.hard &&= rig.readIndex(this.admin) < Number(rig.u64(this.admin.writeIndex));
    for (let i = 0; i < count; i++) {
      const { encode, sent } = this.make(producer, ops[i], rig.csb(place, first + i, SIGNAL));
      producer.sent.push({ ...sent, excused: producer.hard });
      if (i === hole && producer.hole === undefined) producer.hole = { index: first + i, encode };
      else rig.write(place, first + i, encode);
    }
    rig.fn.ringDoorbell(place.number, first + count);
  }

  /** The late descriptor, without a doorbell if the function does not need one. */
  private fill(producer: Producer): void {
    const { hole, place } = producer;
    if (!hole) return;
    this.rig.write(place, hole.index, hole.encode);
    producer.hole = undefined;
    if (this.config.pollInvalid === 'off') this.rig.fn.ringDoorbell(place.number, 0);
  }

  private excuse({ sent }: Producer): void {
    for (const descriptor of sent) descriptor.excused ||= this.rig.u64(descriptor.csb) === SIGNAL;
  }

  /** What holds at any moment. */
  check(): void {
    const { rig } = this;
    for (const producer of this.producers) {
      const { place, sent } = producer;
      const read = rig.readIndex(place);
      expect(read).toBeGreaterThanOrEqual(producer.readIndex);
      expect(read).toBeLessThanOrEqual(sent.length);
      producer.readIndex = read;
      let open = 0;
      for (const [index, { op, csb, target, bytes, excused }] of sent.entries()) {
        const { signal, er } = rig.completion(csb);
        const done = signal === SIGNAL - 1n;
        if (!done && signal !== SIGNAL) throw new Error(`context ${place.number}: descriptor ${index} completed ${SIGNAL - signal} times`);
        if (er !== (done && op.kind === 'bad')) throw new Error(`context ${place.number}: er of descriptor ${index} is ${er}`);
        if (done && op.flags !== 0 && open > 0) throw new Error(`context ${place.number}: ${index} passed one before its fence`);
        if (!done && !excused) open++;
        // Not taken, so not done; and unless Read_Index moves early, left behind only when done.
        const valid = rig.isValid(place, index);
        if (done && valid) throw new Error(`context ${place.number}: descriptor ${index} is done and would run again`);
        if (!done && !excused && index < read && this.config.readIndex === 'late') throw new Error(`Read_Index ${read} passed ${index}`);
        if (done && Buffer.compare(rig.bytes(target, bytes.length), bytes) !== 0) throw new Error(`wrong bytes of descriptor ${index}`);
      }
    }
  }

  /** All holes are filled, and everybody goes on until nothing is left. */
  finish(): void {
    const { rig, admin } = this;
    for (const producer of this.producers) this.fill(producer);
    for (
      let i = 0;
      this.producers.some(({ place, sent }) => rig.readIndex(place) < sent.length || rig.state(place) !== ContextState.RUN);
      i++
    ) {
      if (i > 300) throw new Error('descriptors are left behind');
      rig.drain();
      rig.run(admin, start(1, CONTEXTS, { resume: true }));
      this.check();
    }
    rig.drain();
    this.check();
    const { model } = this;
    for (const { sent, place } of this.producers) {
      for (const [index, { csb, target, bytes, excused }] of sent.entries()) {
        if (rig.u64(csb) === SIGNAL && !excused) throw new Error(`context ${place.number}: descriptor ${index} never completed`);
        // One that was given up may have written a part (S-86).
        const now = rig.u64(csb) === SIGNAL ? rig.bytes(target, bytes.length) : bytes;
        Buffer.from(now).copy(model, target - SOURCE);
      }
    }
    expect(Buffer.compare(model, rig.bytes(SOURCE, LAYOUT.dataBytes))).toBe(0);
  }
}

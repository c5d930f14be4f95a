import { Fabric, type FunctionConfig, type FunctionPorts, type SdxiFunction } from '../../src/function/index.js';
import { Prng } from '../../src/prng.js';
import { ContextState, FunctionState, Reg } from '../../src/spec/index.js';
import { Coverage, covering } from './coverage.js';
import { BYTES, CONTEXTS, Member, PASID, RING, VECTORS } from './member.js';
import { FuzzFailure, type FuzzMemory } from './memory.js';
import { randomDescriptor } from './operations.js';

/** Changes the function or its ports, to show that the fuzzer sees it. */
export interface Plant {
  ports?(ports: FunctionPorts, memory: FuzzMemory): FunctionPorts;
  fn?(fn: SdxiFunction): void;
}

export interface CaseReport {
  descriptors: number;
  coverage: Coverage;
}

const OPERATIONS = 600;
/** What is kept of a case for its report. */
const TAIL = 16;
/** Between two looks at all memory. */
const VERIFY_EVERY = 200;

/** Options of ref §14.3 and capabilities, each left alone more often than not. */
function randomConfig(random: Prng): Partial<FunctionConfig> {
  const config: Record<string, unknown> = { maxContext: 7, maxAkey: random.below(2) };
  const rarely = (name: keyof FunctionConfig, value: () => unknown) => {
    if (random.below(4) === 0) config[name] = value();
  };
  const oneOf = <T>(...values: T[]) => values[random.below(values.length)];
  rarely('csCap', () => random.below(4));
  rarely('maxRing', () => random.below(4));
  rarely('maxBuffer', () => random.below(12));
  rarely('opGroups', () => oneOf(0, 8, 0x10, 0x18));
  rarely('initDelay', () => random.below(50));
  rarely('cache', () => oneOf('start', 'sticky'));
  rarely('readIndex', () => 'early');
  rarely('reorder', () => 'on');
  rarely('seed', () => random.next());
  rarely('clearValid', () => 'off');
  rarely('errlog', () => 'pagesMinus1');
  rarely('strictReserved', () => 'on');
  rarely('strictDoorbell', () => 'on');
  rarely('ignoreChain', () => 'on');
  rarely('vendorInfo', () => 'on');
  rarely('pollInvalid', () => 'on');
  rarely('qos', () => 'on');
  return config;
}

/**
 * One case: a few functions of one group, and random things done to them. The same seed does the same.
 * @throws FuzzFailure with the last operations
 */
export function runCase(seed: number, plant: Plant = {}): CaseReport {
  return new Case(seed, plant).run();
}

class Case {
  private readonly random: Prng;
  private readonly members: Member[] = [];
  private readonly coverage = new Coverage();
  private readonly tail: string[] = [];
  private readonly words = new Uint32Array(16);
  /** Out of 1000: how often a part of a descriptor asks for an error. */
  private readonly trouble: number;
  /** Software that does what it should: no pokes, no unmapping, no wild registers. */
  private readonly polite: boolean;

  constructor(seed: number, plant: Plant) {
    this.random = new Prng(seed);
    const { random } = this;
    this.polite = random.below(4) === 0;
    // A wild address may be one of a ring, and then vl says nothing any more.
    this.trouble = this.polite ? 0 : [0, 1, 2, 20, 200][random.below(5)];
    const count = random.below(3) === 0 ? 2 + random.below(2) : 1;
    const fabric = new Fabric();
    const tracer = random.below(2) === 0 ? covering(this.coverage) : undefined;
    for (let sfunc = 1; sfunc <= count; sfunc++) {
      const make = (memory: FuzzMemory): FunctionPorts => {
        const raise = (vector: number) => {
          if (!Number.isInteger(vector) || vector < 0 || vector >= VECTORS) throw new FuzzFailure(`interrupt ${vector} of ${VECTORS}`);
        };
        const ports: FunctionPorts = { memory: memory.spaces, interrupts: { vectors: VECTORS, raise }, fabric, tracer };
        return plant.ports?.(ports, memory) ?? ports;
      };
      const member = new Member(random, sfunc, count, randomConfig(random), make, this.trouble > 2);
      plant.fn?.(member.fn);
      this.members.push(member);
    }
  }

  run(): CaseReport {
    try {
      for (const member of this.members) member.bringUp();
      for (let n = 1; n <= OPERATIONS; n++) {
        const member = this.members[this.random.below(this.members.length)];
        this.operate(member);
        if (n % VERIFY_EVERY === 0) this.verify();
      }
      this.finish();
    } catch (error) {
      const { message, stack } = error as Error;
      const where = error instanceof FuzzFailure ? message : `${message}\n${stack}`;
      throw new FuzzFailure(`${where}\nlast operations:\n  ${this.tail.join('\n  ')}`);
    }
    let descriptors = 0;
    for (const { fn } of this.members) descriptors += fn.counters.descriptors;
    return { descriptors, coverage: this.coverage };
  }

  /** All of it comes to rest, stops, and has written nowhere else. */
  private finish(): void {
    for (const member of this.members) {
      this.note(member, 'rests');
      member.rest();
    }
    this.verify();
    if (this.polite) for (const member of this.members) this.verifyRings(member);
    for (const member of this.members) {
      this.note(member, 'stops');
      member.toStop();
      if (member.fn.step(64) !== 0) throw new FuzzFailure('a stopped function goes on');
    }
    this.verify();
  }

  /** Where nobody has meddled: everything is consumed, or the context has stopped; and vl says what Read_Index says (S-74). */
  private verifyRings(member: Member): void {
    const { config, fn } = member;
    if (fn.state !== FunctionState.ACTIVE || config.maxContext < CONTEXTS - 1) return;
    for (let context = 0; context < CONTEXTS; context++) {
      const [from, to] = [member.readIndex(context), member.writeIndex[context]];
      const what = `context ${context} in state ${member.state(context)}: Read_Index ${from}, Write_Index ${to}`;
      if (from > to || to - from > RING) throw new FuzzFailure(what);
      if (member.state(context) === ContextState.RUN && from < to) throw new FuzzFailure(`${what}: work is left behind`);
      if (config.clearValid === 'off') continue;
      for (let index = Math.max(0, to - RING); index < to; index++) {
        const valid = (member.memory.u32[member.slot(context, index) >>> 2] & 1) === 1;
        if (valid !== index >= from && (valid || config.reorder === 'off'))
          throw new FuzzFailure(`${what}: vl of ${index} is ${Number(valid)}`);
      }
    }
  }

  private verify(): void {
    for (const { memory, fn } of this.members) {
      memory.verify();
      for (const [name, value] of Object.entries(fn.counters)) {
        if (!(value >= 0) || !Number.isInteger(value)) throw new FuzzFailure(`counter ${name} is ${value}`);
      }
    }
  }

  private note(member: Member, text: string): void {
    if (this.tail.length === TAIL) this.tail.shift();
    this.tail.push(`sdxi${member.sfunc - 1} ${text}`);
  }

  private operate(member: Member): void {
    const { random } = this;
    const kind = random.below(1000);
    if (kind < 520) this.submit(member);
    else if (kind < 720) this.step(member);
    else if (kind < 850) this.repair(member);
    else if (kind < 880) this.doorbell(member);
    else if (kind < 884) this.bringUp(member);
    else if (kind < 888) this.stopAndGo(member);
    else if (this.polite) this.step(member);
    else if (kind < 910) this.map(member);
    else if (kind < 930) this.unmap(member);
    else if (kind < 955) this.poke(member);
    else if (kind < 970) this.register(member);
    else if (kind < 980) this.request(member);
    else if (kind < 984) this.reset(member);
    else if (kind < 988) this.internalError(member);
    else if (kind < 992) this.block(member);
    else this.submit(member);
  }

  /** A batch into a ring, as a producer does it. */
  private submit(member: Member): void {
    const { random, words } = this;
    const context = random.below(8) === 0 ? 0 : random.below(CONTEXTS);
    const from = member.readIndex(context);
    const index = member.writeIndex[context];
    const room = from <= index && index - from <= RING ? RING - (index - from) : 0;
    const count = Math.min(room, 1 + random.below(random.below(4) === 0 ? RING : 64));
    this.note(member, `context ${context}: ${count} descriptors from ${index}`);
    for (let i = 0; i < count; i++) {
      randomDescriptor(words, random, member, context, this.trouble);
      const slot = member.slot(context, index + i);
      for (let word = 1; word < 16; word++) member.memory.store(slot + word * 4, words[word]);
      member.memory.store(slot, words[0]);
    }
    member.writeIndex[context] = index + count;
    member.storeWriteIndex(context, index + count);
    member.fn.ringDoorbell(context, index + count);
    if (random.below(3) !== 0) member.fn.step(1 + random.below(256));
  }

  private step(member: Member): void {
    const budget = 1 + this.random.below(300);
    this.note(member, `steps ${budget}`);
    if (this.random.below(4) === 0) member.rest();
    else member.fn.step(budget);
  }

  private doorbell(member: Member): void {
    const context = this.random.below(12) === 0 ? this.random.next() : this.random.below(9);
    this.note(member, `doorbell ${context}`);
    if (this.random.below(2) === 0) member.fn.ringDoorbell(context, 0);
    else member.fn.writeDoorbell(context * 4096 + this.random.below(3), [8, 4, 2][this.random.below(3)], 1n);
  }

  /** A driver looks after its contexts; where the function does not run, it brings it up. */
  private repair(member: Member): void {
    const { state } = member.fn;
    if (state !== FunctionState.ACTIVE && state !== FunctionState.INIT) {
      if (state === FunctionState.STOP || state === FunctionState.ERROR) this.bringUp(member);
      return;
    }
    for (let context = 0; context < CONTEXTS; context++) {
      if (member.state(context) !== ContextState.ERR_FN && this.random.below(30) !== 0) continue;
      if (member.fn.contexts().some(({ number, running }) => number === context && running)) continue;
      this.note(member, `repair of context ${context}`);
      member.repair(context);
    }
    member.fn.writeRegister(Reg.ERR_RD, 8, member.fn.readRegister(Reg.ERR_WRT, 8));
  }

  private bringUp(member: Member): void {
    this.note(member, 'bring-up');
    member.bringUp();
  }

  /** A soft or hard stop, a snapshot and its restoring, and on with the same rings. */
  private stopAndGo(member: Member): void {
    const { fn } = member;
    if (fn.state !== FunctionState.ACTIVE) return;
    this.note(member, 'stop and go');
    member.control(1 + this.random.below(2));
    member.rest();
    if ((fn.state as number) !== FunctionState.STOP) throw new FuzzFailure(`a stop ended in state ${fn.state}`);
    fn.restore(JSON.parse(JSON.stringify(fn.snapshot())));
    member.control(3);
    for (let context = 0; context < CONTEXTS; context++) {
      if (member.state(context) === ContextState.STOP_FN) member.repair(context);
      // A jump start that nobody had looked at yet is forgotten with the stop (S-75).
      else fn.ringDoorbell(context, member.writeIndex[context]);
    }
  }

  private map(member: Member): void {
    const { random } = this;
    const position = 8 * random.below(BYTES / 8);
    const length = 1 + random.below(Math.min(BYTES - position, 1 << (3 + random.below(14))));
    // Where something was, beside it, or anywhere.
    const iova = member.base + (random.below(3) === 0 ? 8 * random.below(BYTES / 8) : position);
    const access = 1 + random.below(3);
    this.note(member, `map ${length} bytes at 0x${iova.toString(16)}, access ${access}`);
    member.memory.map(random.below(8) === 0 ? PASID : -1, iova, length, position, access);
  }

  private unmap(member: Member): void {
    const { grants } = member.memory;
    if (grants.length === 0) return;
    const n = this.random.below(grants.length);
    this.note(member, `unmap 0x${grants[n].iova.toString(16)}, ${grants[n].length} bytes`);
    member.memory.unmap(n);
  }

  /** One dword of the structures becomes something else. */
  private poke(member: Member): void {
    const { random } = this;
    const position = random.below(4) === 0 ? 4 * random.below(0x1_8000) : member.anyStructure();
    const value =
      random.below(3) === 0 ? random.next() : random.below(3) === 0 ? 0 : member.memory.u32[position >>> 2] ^ (1 << random.below(32));
    this.note(member, `poke 0x${position.toString(16)} = 0x${(value >>> 0).toString(16)}`);
    member.memory.store(position, value);
    if (random.below(2) === 0) for (let context = 0; context < CONTEXTS; context++) member.fn.ringDoorbell(context, 0);
  }

  private register(member: Member): void {
    const { random } = this;
    const offset =
      random.below(4) === 0
        ? random.below(0x8_0000)
        : [Reg.CTL2, Reg.CXT_L2, Reg.RKEY, Reg.ERR_CFG, Reg.ERR_WRT, Reg.ERR_RD, Reg.ERR_STS, Reg.GRP_ENUM][random.below(8)];
    const size = random.below(4) === 0 ? 1 + random.below(8) : 8;
    const value = (BigInt(random.next()) << 32n) | BigInt(random.next());
    this.note(member, `register 0x${offset.toString(16)}/${size} = 0x${value.toString(16)}`);
    if (random.below(4) === 0) member.fn.readRegister(offset, size);
    else member.fn.writeRegister(offset, size, size < 8 ? value & ((1n << BigInt(8 * size)) - 1n) : value);
  }

  private request(member: Member): void {
    const { random } = this;
    const value = (BigInt(random.below(3) === 0 ? random.next() : member.config.groupId) << 32n) | BigInt(random.next() & 0x0fff_ff17);
    this.note(member, `CTL0 = 0x${value.toString(16)}`);
    member.fn.writeRegister(Reg.CTL0, 8, value);
  }

  private reset(member: Member): void {
    this.note(member, 'function-level reset');
    member.fn.reset();
  }

  private internalError(member: Member): void {
    const context = this.random.below(3) === 0 ? undefined : this.random.below(CONTEXTS);
    this.note(member, `internal error of ${context ?? 'the function'}`);
    member.fn.injectInternalError(context);
  }

  /** Bus mastering goes off, some steps, and on. */
  private block(member: Member): void {
    this.note(member, 'bus mastering off and on');
    member.memory.spaces.setBlocked(true);
    member.fn.step(100);
    member.memory.spaces.setBlocked(false);
  }
}

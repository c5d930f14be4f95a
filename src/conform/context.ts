import { AKEY_ENT, ContextState, CXT_CTL, CXT_L1_ENT, CXT_STS, DescriptorFlag, nameOf, RKEY_ENT } from '../spec/index.js';
import { equal, holds } from './check.js';
import type { Block } from './memory.js';
import { type Dsc, type Fields, withCsb } from './program.js';
import type { Rig } from './rig.js';

export interface ContextOptions {
  /** CXT_STS.state; default STOP_SW. */
  state?: number;
  /** Descriptors in the ring; default 1,024. */
  entries?: number;
  /** Read_Index and Write_Index at the start. */
  index?: number;
  /** Fields over the usual ones. */
  l1?: Fields;
  ctl?: Fields;
  /** Structures that lie elsewhere than in the arena. */
  control?: Block;
  status?: Block;
  writeIndex?: Block;
  ring?: Block;
  akeys?: Block;
}

/** A completion status block. */
export class Csb {
  readonly block: Block;

  constructor(block: Block, signal: number | bigint) {
    this.block = block;
    block.putU64(0, signal);
  }

  get iova(): number {
    return this.block.iova;
  }

  get signal(): bigint {
    return this.block.u64(0);
  }

  get er(): boolean {
    return this.block.u32(8) >= 0x8000_0000;
  }
}

/** What a descriptor has to run into. */
export interface Failure {
  step: number;
  sub: number;
  operand?: number;
}

/** One context as software holds it: its structures in memory, its ring, its doorbell. ref §4, §6.1 */
export class TestContext {
  readonly number: number;
  readonly entries: number;
  readonly control: Block;
  readonly status: Block;
  readonly writeIndex: Block;
  readonly ring: Block;
  readonly akeys: Block;
  /** What producers have claimed. */
  claimed: number;
  private readonly t: Rig;
  private readonly l1: Fields;
  private readonly ctl: Fields;

  constructor(t: Rig, number: number, options: ContextOptions = {}) {
    const { state = ContextState.STOP_SW, entries = 1024, index = 0, l1 = {}, ctl = {} } = options;
    const name = (what: string) => `${what} of context ${number}`;
    this.t = t;
    this.number = number;
    this.entries = entries;
    this.l1 = l1;
    this.ctl = ctl;
    this.claimed = index;
    this.control = options.control ?? t.mem.alloc(name('CXT_CTL'), 64);
    this.status = options.status ?? t.mem.alloc(name('CXT_STS'), 16, { rule: 'status' });
    this.writeIndex = options.writeIndex ?? t.mem.alloc(name('Write_Index'), 8);
    this.ring = options.ring ?? t.mem.alloc(name('the ring'), Math.min(entries, 2048) * 64, { rule: 'ring' });
    this.akeys = options.akeys ?? t.mem.alloc(name('the AKey table'), 4096, { align: 4096 });
    this.akeys.put(0, AKEY_ENT.encode({ vl: 1 }));
    this.status.put(0, CXT_STS.encode({ state, read_index: index }));
    this.writeIndex.putU64(0, index);
    this.publishControl();
    this.publish();
  }

  /** Writes CXT_CTL. */
  publishControl(fields: Fields = {}): void {
    const { control, ring, entries, status, writeIndex } = this;
    const usual = {
      vl: 1,
      se: 1,
      csa: 1,
      ds_ring_ptr: ring.iova,
      ds_ring_sz: entries,
      cxt_sts_ptr: status.iova,
      write_index_ptr: writeIndex.iova,
    };
    control.publish(0, CXT_CTL.encode({ ...usual, ...this.ctl, ...fields }));
  }

  /** Writes the level-1 entry. */
  publish(fields: Fields = {}): void {
    const { t, number, control, akeys } = this;
    const usual = { vl: 1, ka: 1, cxt_ctl_ptr: control.iova, akey_ptr: akeys.iova, max_buffer: 11, opb_000_enb: t.caps.opGroups };
    t.level1(number).publish((number % 128) * 32, CXT_L1_ENT.encode({ ...usual, ...this.l1, ...fields }));
  }

  /** Takes the level-1 entry back: vl, then the rest. */
  withdraw(): void {
    this.t.level1(this.number).publish((this.number % 128) * 32, new Uint8Array(32));
  }

  get state(): number {
    return this.status.u8(0) & 0xf;
  }

  /** As software does, while the context does not run. */
  set state(value: number) {
    this.status.put(0, [value]);
  }

  get readIndex(): number {
    return Number(this.status.u64(8));
  }

  akey(index: number, fields: Fields): number {
    this.akeys.put(index * 16, AKEY_ENT.encode({ vl: 1, ...fields }));
    return index;
  }

  // ---- ring

  /** vl of the slot of a descriptor. */
  valid(index: number): boolean {
    return (this.ring.u8((index % this.entries) * 64) & 1) === 1;
  }

  /** Writes a slot, vl last. */
  put(index: number, dsc: Dsc): void {
    this.ring.publish((index % this.entries) * 64, dsc);
  }

  /** Moves Write_Index. @returns the first index claimed */
  claim(count: number): number {
    const first = this.claimed;
    this.claimed += count;
    this.writeIndex.putU64(0, this.claimed);
    return first;
  }

  /** Rings the doorbell. */
  doorbell(value = this.claimed): void {
    this.t.doorbell(this.number, value);
  }

  /** Claims, writes, rings. @returns the first index */
  submit(...dscs: Dsc[]): number {
    const first = this.claim(dscs.length);
    dscs.forEach((dsc, i) => {
      this.put(first + i, dsc);
    });
    this.doorbell();
    return first;
  }

  // ---- waiting

  /** Read_Index has come this far. */
  async reached(index = this.claimed): Promise<void> {
    const { number } = this;
    await this.t.until(
      () => this.readIndex >= index,
      () => `Read_Index ${index} of context ${number} (state ${nameOf(ContextState, this.state)}, Read_Index ${this.readIndex})`,
    );
    equal(this.readIndex, index, `Read_Index of context ${number}`);
  }

  async becomes(state: number): Promise<void> {
    await this.t.until(
      () => this.state === state,
      () => `state ${nameOf(ContextState, state)} of context ${this.number} (it is ${nameOf(ContextState, this.state)})`,
    );
  }

  /** Submits, with a completion block on the last one, and waits until all have completed without an error. */
  async run(...dscs: Dsc[]): Promise<Csb> {
    const csb = this.t.csb();
    const last = withCsb(dscs[dscs.length - 1], csb.iova);
    // fe: unordered functions complete the last one last, too.
    if (dscs.length > 1) last[0] |= DescriptorFlag.FE;
    this.submit(...dscs.slice(0, -1), last);
    await this.completed(csb);
    return csb;
  }

  /** A completion block that reaches 0 without er, and Read_Index where it belongs. */
  async completed(csb: Csb): Promise<void> {
    await this.t.until(
      () => csb.signal === 0n,
      () => `completion in context ${this.number} (state ${nameOf(ContextState, this.state)})`,
    );
    holds(!csb.er, `er is set, and context ${this.number} is in state ${nameOf(ContextState, this.state)}`);
    await this.reached();
  }

  /** Submits a descriptor that has to fail: er, signal, Read_Index behind it, ERR_FN, and a record that says why. ref §6.4, §8.3 */
  async fails(dsc: Dsc, { step, sub, operand }: Failure): Promise<void> {
    const csb = this.t.csb();
    const index = this.submit(withCsb(dsc, csb.iova));
    await this.t.log.expect({ step, sub, operand, context: this.number, index });
    equal(csb.signal, 0n, 'signal of the failed descriptor');
    equal(csb.er, true, 'er of the failed descriptor');
    equal(this.state, ContextState.ERR_FN, `state of context ${this.number}`);
    equal(this.readIndex, index + 1, `Read_Index of context ${this.number}`);
  }

  /** The same for what nobody can complete: nothing is consumed. @param state that memory shows afterwards; default ERR_FN */
  async fallsOver(
    { step, sub }: Failure,
    { state = ContextState.ERR_FN as number, index = undefined as number | undefined, readIndex = this.readIndex } = {},
  ): Promise<void> {
    await this.t.log.expect({ step, sub, context: this.number, index });
    equal(this.state, state, `state of context ${this.number}`);
    equal(this.readIndex, readIndex, `Read_Index of context ${this.number}`);
  }

  /** Software's repair of a stopped context: RUN and a doorbell. */
  jumpStart(): void {
    this.state = ContextState.RUN;
    this.doorbell();
  }
}

/** An RKey table of 256 entries, made known in MMIO_RKEY by the rig. */
export class RkeyTable {
  readonly block: Block;

  constructor(block: Block) {
    this.block = block;
  }

  put(index: number, fields: Fields): number {
    this.block.put(index * 16, RKEY_ENT.encode({ vl: 1, ...fields }));
    return index;
  }
}

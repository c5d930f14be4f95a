/** The function and the reference side by side: the same software works on both, and the reference follows each turn. */
import type { FunctionConfig } from '../../../src/function/index.js';
import { FunctionState, Reg } from '../../../src/spec/index.js';
import { L1, L2, LOG, type Piece, type Place, type Setup } from './estate.js';
import type { Event } from './program.js';
import type { Spot } from './reference.js';
import { type Busy, type ReferenceContext, Violation } from './reference-context.js';
import { CXT_L2_VALUE, ERR_CFG_ON, type Producer } from './software.js';
import { LOG_ENTRIES, type Sabotage, Witness } from './witness.js';

/** What the test looks at inside the function: whose turn it is, and who is in line after it. */
interface Inside {
  number: number;
  queued: boolean;
  running: boolean;
  work: number;
  stop: string;
}
type Turn = (context: Inside, maxTurns: number, bytesLimit: number) => number;

export class Lockstep extends Witness {
  private readonly undo: (() => void)[] = [];

  constructor(setup: Setup, sabotage: Sabotage = {}, options: Partial<FunctionConfig> = {}) {
    super(setup, sabotage, options);
    this.program();
    this.follow();
    this.activate(true);
  }

  /** Registers as a driver writes them in STOP. */
  private program(): void {
    const { fn, reference, estate } = this;
    fn.writeRegister(Reg.CXT_L2, 8, CXT_L2_VALUE);
    reference.level2 = BigInt(L2);
    reference.machine.limits.functionPasid = estate.functionPasid;
    this.limits(63, 11, 8, 0x18);
    fn.writeRegister(Reg.ERR_CTL, 8, 1n);
    fn.writeRegister(Reg.ERR_CFG, 8, ERR_CFG_ON);
    fn.writeRegister(Reg.ERR_WRT, 8, this.logWrite);
    fn.writeRegister(Reg.ERR_RD, 8, this.logRead);
    this.logOn = true;
    this.loud = true;
  }

  private ask(request: number): void {
    this.fn.writeRegister(Reg.CTL0, 8, this.request(request));
  }

  private activate(everybody: boolean): void {
    this.ask(3);
    this.reference.active = true;
    for (const { place } of this.producers) {
      const stopped = this.state(place) === 4;
      if (place.number === 0 || (everybody && stopped)) this.poke(this.spot(place.structurePasid, place.status), [1]);
      this.ring(place.number, 0);
    }
  }

  // ---- What software does meanwhile, to both

  private limits(maxContext: number, maxBuffer: number, maxAkey: number, opGroups: number): void {
    const { reference } = this;
    const low = (maxBuffer | (maxAkey << 12) | (maxContext << 16)) >>> 0;
    this.fn.writeRegister(Reg.CTL2, 8, (BigInt(opGroups >>> 0) << 32n) | BigInt(low));
    reference.maxContext = Math.min(maxContext, 63);
    reference.maxAkey = Math.min(maxAkey, 8);
    reference.machine.limits.maxBuffer = Math.min(maxBuffer, 11);
    reference.machine.limits.opGroups = opGroups & 0x18;
  }

  private remap(piece: Piece, access: number): void {
    if (piece.present) this.spaces.bind(piece.pasid).unmap(piece.start, piece.length);
    piece.present = access !== 0;
    if (access !== 0) {
      piece.access = access;
      this.mapReal(piece);
    }
    // Admin operations look at memory in each turn; those on data may have used it already.
    for (const { busy, number } of this.reference.contexts) if (busy?.spaces && piece.owner === number) busy.disturbed = true;
  }

  /** Software stores RUN, as it may while a context is stopped (ref §6.5). */
  private makeRun(place: Place): void {
    if (!this.reference.contexts[place.number].running) this.poke(this.spot(place.structurePasid, place.status), [1]);
  }

  private corrupt(event: Event & { kind: 'poke' }, { place, writeIndex }: Producer): void {
    const repair = this.undo.pop();
    if (repair) {
      repair();
      return;
    }
    const { functionPasid } = this.estate;
    const flip = (pasid: number, address: number, bits: number) => {
      const spot = this.spot(pasid, address);
      const change = () => this.poke(spot, [this.model[spot.bank][spot.at] ^ bits]);
      change();
      this.undo.push(change);
    };
    const index = (value: bigint) => {
      this.poke64(place.structurePasid, place.writeIndex, value);
      this.undo.push(() => this.poke64(place.structurePasid, place.writeIndex, this.producers[place.number].writeIndex));
    };
    const read = this.readIndex(place);
    const l1 = L1 + 32 * place.number;
    if (event.what === 'l2') flip(functionPasid, L2, 1);
    else if (event.what === 'l1') flip(functionPasid, l1, 1);
    else if (event.what === 'ctl') flip(functionPasid, place.control, 1);
    else if (event.what === 'size') flip(functionPasid, place.control + 9, place.setup.ringEntries >>> 8);
    else if (event.what === 'akeys') flip(functionPasid, l1 + 8, 9);
    else if (event.what === 'key') flip(functionPasid, place.akeys, 1);
    else if (event.what === 'state')
      this.poke(this.spot(place.structurePasid, place.status), [[0, 2, 3, 4, 6, 15][Number(writeIndex % 6n)]]);
    else if (event.what === 'behind') index(read - 1n);
    else if (event.what === 'beyond') index(read + BigInt(place.setup.ringEntries + 1));
    else index(1n << 53n);
  }

  // ---- Events

  apply(event: Event): void {
    const producer = this.producers['context' in event ? Math.min(event.context, this.producers.length - 1) : 0];
    const { place } = producer;
    const asleep = this.fn.state === FunctionState.STOP;
    if (asleep && ['submit', 'start', 'drain'].includes(event.kind)) this.activate(event.kind !== 'drain');
    switch (event.kind) {
      case 'submit':
        if (event.start) this.makeRun(place);
        this.submit(producer, event.ops, event.holes, event.ring);
        break;
      case 'fill':
        this.fill(producer);
        if (event.ring) this.ring(place.number, 0);
        break;
      case 'ring':
        this.ring(event.context % this.reference.contexts.length, event.value);
        break;
      case 'step':
        this.step(event.budget);
        break;
      case 'drain':
        this.drain();
        this.repair();
        break;
      case 'map': {
        const changed = this.altered();
        const list = event.access === 3 && changed.length > 0 ? changed : this.estate.pieces;
        const piece = list[event.piece % list.length];
        this.remap(piece, event.access === 3 ? (this.original.get(piece) as number) : event.access);
        break;
      }
      case 'start':
        this.makeRun(place);
        if (event.ring) this.ring(place.number, 0);
        break;
      case 'stop':
        this.stop(event);
        break;
      case 'flr':
        this.fn.reset();
        for (const { busy } of this.reference.contexts) if (busy) this.adopt(busy);
        this.reference.forget();
        this.logStatus = 0;
        this.compareBytes();
        this.program();
        break;
      case 'log':
        this.touchLog(event.what);
        break;
      case 'limits':
        this.limits(event.maxContext, event.maxBuffer, event.maxAkey, event.opGroups);
        break;
      case 'poke':
        this.corrupt(event, producer);
        break;
    }
  }

  /** Everything is as it was at first. */
  private repair(): void {
    for (const undo of this.undo.splice(0)) undo();
    for (const piece of this.altered()) this.remap(piece, this.original.get(piece) as number);
    this.limits(63, 11, 8, 0x18);
  }

  private altered(): Piece[] {
    return this.estate.pieces.filter((p) => !p.present || p.access !== this.original.get(p));
  }

  drain(): void {
    for (let i = 0; i < 20_000; i++) {
      if (this.step(64) > 0) continue;
      for (const c of this.reference.contexts) {
        if (c.busy) throw new Violation(`the function rests while context ${c.number} is in the middle of a descriptor`);
        if (this.inside(c.number)?.queued) throw new Violation(`the function rests while context ${c.number} is in line`);
        if (c.stop !== 'none') throw new Violation(`the function rests while context ${c.number} is stopping`);
        if (c.rung) throw new Violation(`the function rests, and the doorbell of context ${c.number} was not heard`);
      }
      return;
    }
    throw new Violation('the function does not come to rest');
  }

  // ---- One step, and what is to be seen of it

  private inside(number: number): Inside | undefined {
    return (this.fn as unknown as { core: { contexts: Map<number, Inside> } }).core.contexts.get(number);
  }

  /** From now on the reference follows each turn of the function. */
  protected follow(): void {
    const { engine } = this.fn as unknown as { engine: { turn: Turn; watch?: { look(ring: (number: number) => void): void } } };
    // A slot that became valid is as good as a doorbell.
    const look = engine.watch?.look.bind(engine.watch);
    if (engine.watch && look) {
      engine.watch.look = (ring) =>
        look((number) => {
          this.reference.ring(number);
          ring(number);
        });
    }
    const turn = engine.turn.bind(engine);
    engine.turn = (context, maxTurns, bytesLimit) => {
      const abandons = context.stop === 'hard';
      const { work } = context;
      const used = turn(context, maxTurns, bytesLimit);
      if (!this.stopping) this.observe(context);
      else if (work !== 0 && context.work === 0 && !abandons) this.ended.add(context.number);
      return used;
    };
  }

  /** What is to be seen of a context after its turn. */
  private observe({ number, queued, running, work }: Inside): void {
    const c = this.reference.contexts[number];
    const cleared = (spot: Spot) => (this.banks[spot.bank][spot.at] & 1) === 0;
    const head = c.busy ? this.slotOf(c) : undefined;
    const busy = work !== 0;
    const finished = c.busy !== undefined && (!busy || (head !== undefined && cleared(head)));
    if (c.busy?.disturbed && finished) this.resynchronize(c, running, !queued);
    else this.reference.turn(c, { rested: !queued, busy, finished, cleared });
    if (c.running !== running) throw new Violation(`context ${number}: running ${running}, should be ${c.running}`);
  }

  /** @returns turns that the function ran */
  step(budget: number): number {
    const active = this.fn.state === FunctionState.ACTIVE;
    const turns = this.fn.step(budget);
    if (!active && turns !== 0) throw new Violation('a function that is not ACTIVE does something');
    this.compare();
    return turns;
  }

  /** A descriptor whose memory changed while it ran has ended somehow: within limits, what the function did is taken over. */
  private resynchronize(c: ReferenceContext, running: boolean, rested: boolean): void {
    const busy = c.busy as Busy;
    const t = c.tables as NonNullable<ReferenceContext['tables']>;
    const take = (spot: Spot | undefined, length: number) => {
      if (spot) this.banks[spot.bank].copy(this.model[spot.bank], spot.at, spot.at, spot.at + length);
    };
    const place = this.producers[c.number].place;
    const slot = this.slotOf(c);
    const consumed = slot !== undefined && (this.banks[slot.bank][slot.at] & 1) === 0;
    const block = busy.descriptor.readBigUInt64LE(56) & ~0x1fn;
    if ((busy.descriptor[56] & 1) === 0 && this.estate.holder(t.structurePasid, Number(block))) {
      const spot = this.spot(t.structurePasid, Number(block));
      const fallen = BigInt.asUintN(64, this.model[spot.bank].readBigUInt64LE(spot.at) - this.banks[spot.bank].readBigUInt64LE(spot.at));
      const overwritten =
        (this.banks[spot.bank].readBigUInt64LE(spot.at) === 0n && this.setup.csCap > 0) ||
        busy.spots.some(({ bank, at, length }) => bank === spot.bank && spot.at < at + length && spot.at + 12 > at);
      if (fallen > 1n && !overwritten) throw new Violation(`context ${c.number}: a descriptor completed ${fallen} times`);
      if (fallen === 1n && !consumed && !overwritten) throw new Violation(`context ${c.number}: a descriptor completed and will run again`);
      take(spot, 12);
    }
    take(slot, 4);
    this.adopt(busy);
    take(this.spot(t.structurePasid, place.status), 16);
    const index = this.readIndex(place);
    if (index !== c.index && index !== c.index + 1n) throw new Violation(`context ${c.number}: Read_Index ${index} after ${c.index}`);
    if (consumed) c.index++;
    this.wild.add(c.number);
    c.busy = undefined;
    if (!running) c.leave();
    else if (c.stop !== 'none' && rested) throw new Violation('a stop ended without leaving the running set');
    else c.idle = rested;
  }

  /** A stop of the function is looked at when it is over. */
  private stopping = false;
  /** Contexts whose descriptors came to an end of their own during it. */
  private readonly ended = new Set<number>();
  // ---- Stops of the function

  protected stop(event: Event & { kind: 'stop' }): void {
    if (this.fn.state !== FunctionState.ACTIVE) return;
    this.stopping = true;
    this.ask(event.reset ? 0 : event.hard ? 2 : 1);
    for (let i = 0; i < event.steps; i++) this.fn.step(1);
    if (event.escalate) this.ask(2);
    const stopped = () => this.fn.state === FunctionState.STOP;
    for (let i = 0; !stopped(); i++) {
      if (i > 20_000) throw new Violation('the function does not stop');
      if (this.fn.step(1 + (i % 7)) === 0) throw new Violation('the function rests while it is stopping');
    }
    this.stopping = false;
    const { contexts } = this.reference;
    const disturbed = contexts.filter((c) => c.busy?.disturbed);
    for (const c of disturbed) this.resynchronize(c, false, true);
    this.reference.stopFunction(event.hard || event.reset || event.escalate, {
      quicker: (c) => this.state(this.producers[c.number].place) === 0,
      completed: (c) => {
        const slot = this.slotOf(c);
        return this.ended.has(c.number) && slot !== undefined && (this.banks[slot.bank][slot.at] & 1) === 0;
      },
    });
    this.ended.clear();
    if (event.reset) {
      // ERR_WRT is gone: the records that were written are those that can be seen.
      let written = 0;
      while (this.changed(LOG + Number((this.logWrite + BigInt(written)) % LOG_ENTRIES) * 64)) written++;
      this.checkLog(this.logWrite + BigInt(written));
      this.logStatus = 0;
      this.compareBytes();
      for (const offset of [Reg.CXT_L2, Reg.ERR_CFG, Reg.ERR_WRT, Reg.ERR_STS]) {
        if (this.fn.readRegister(offset, 8) !== 0n) throw new Violation('RESET left a register as it was (S-11)');
      }
      this.program();
    } else this.compare();
  }

  /** The whole program; then nothing may be left undone. */
  static run(setup: Setup, events: Event[], sabotage?: Sabotage, options?: Partial<FunctionConfig>): Lockstep {
    const lockstep = new this(setup, sabotage, options);
    for (const event of events) lockstep.apply(event);
    lockstep.drain();
    return lockstep;
  }
}

import { ArgumentError, BusLostError, ClosedError } from '../../../errors.js';
import { Board, MEMBERS_MAX } from '../../../fabric/board.js';
import type { FunctionConfig } from '../../../function/config.js';
import { Fabric, handleTaken } from '../../../function/fabric.js';
import type { Region } from '../../../memory/region.js';
import type { MapNumbers } from '../engine-memory.js';
import type { MemberShare } from './member.js';

/** What the hub asks of a member: requests to its engine, and what it has mapped. */
export interface Member {
  readonly share: MemberShare;
  mappings(): Iterable<{ numbers: MapNumbers; region: Region }>;
  meet(other: MemberShare): void;
  part(index: number): void;
  mapOf(index: number, numbers: MapNumbers): void;
  unmapOf(index: number, numbers: MapNumbers): void;
  /** Keeps memory until the engine's thread is gone, because it may still touch it. */
  keep(region: Region): void;
}

/** A place in a fabric, before there is an engine, and as long as there is one. */
export interface Place extends Pick<FunctionConfig, 'sfunc' | 'groupId'> {
  readonly hub: Hub;
  readonly index: number;
  readonly board: SharedArrayBuffer;
  member?: Member;
}

/** Asks a member that may be gone: then there is nothing to ask. @returns whether it is not */
function reach(action: () => void): boolean {
  try {
    action();
    return true;
  } catch (error) {
    if (error instanceof BusLostError || error instanceof ClosedError) return false;
    throw error;
  }
}

/** Whatever goes wrong with one of them, the others have to be told. @returns whether it has let go */
function parts(member: Member, index: number): boolean {
  try {
    member.part(index);
    return true;
  } catch {
    return false;
  }
}

/**
 * One fabric, as the thread that opens its members sees it: tells the engines of each other, and maps what one member maps in all
 * others too, so that any of them can move bytes there once an RKey allows it.
 */
class Hub {
  private readonly board = new Board();
  private readonly places: (Place | undefined)[] = [];
  private readonly name: string;

  constructor(name: string) {
    this.name = name;
  }

  /** @throws ArgumentError when the group has such a handle already (S-98), or the fabric is full */
  reserve({ sfunc, groupId }: Pick<FunctionConfig, 'sfunc' | 'groupId'>): Place {
    if (groupId !== 0 && this.places.some((place) => place?.sfunc === sfunc && place.groupId === groupId))
      throw handleTaken(groupId, sfunc);
    let index = 0;
    while (this.places[index] !== undefined) index++;
    if (index >= MEMBERS_MAX) {
      throw new ArgumentError(`fabric ${this.name} has ${MEMBERS_MAX} functions already`, { hint: 'close one, or use another fabric' });
    }
    const place: Place = { hub: this, index, board: this.board.buffer, sfunc, groupId };
    this.places[index] = place;
    this.board.clear(index, sfunc, groupId);
    return place;
  }

  /** The engine of a place runs. */
  enter(place: Place, newcomer: Member): void {
    for (const other of this.others(place)) {
      if (!reach(() => other.meet(newcomer.share))) continue;
      newcomer.meet(other.share);
      for (const { numbers } of other.mappings()) newcomer.mapOf(other.share.index, numbers);
    }
    place.member = newcomer;
  }

  /** From its return on no engine of another member reaches memory of this one. Idempotent. */
  leave(place: Place): void {
    if (this.places[place.index] !== place) return;
    this.places[place.index] = undefined;
    for (const other of this.others(place)) {
      if (parts(other, place.index) || !place.member) continue;
      for (const { region } of place.member.mappings()) other.keep(region);
    }
    if (this.places.every((taken) => taken === undefined)) hubs.delete(this.name);
  }

  /** @throws SdxiError ERR_SDXI_MAPPING; it is mapped nowhere then */
  map(place: Place, numbers: MapNumbers, region: Region): void {
    const done: Member[] = [];
    try {
      for (const other of this.others(place)) if (reach(() => other.mapOf(place.index, numbers))) done.push(other);
    } catch (error) {
      for (const other of done) if (!reach(() => other.unmapOf(place.index, numbers))) other.keep(region);
      throw error;
    }
  }

  unmap(place: Place, numbers: MapNumbers, region: Region): void {
    for (const other of this.others(place)) if (!reach(() => other.unmapOf(place.index, numbers))) other.keep(region);
  }

  private *others(self: Place): Generator<Member> {
    for (const place of this.places) if (place?.member && place !== self) yield place.member;
  }
}

export type { Hub };

/** Fabrics of this thread, by name; of functions with an engine thread each, and of functions inline. */
const hubs = new Map<string, Hub>();
const inline = new Map<string, { fabric: Fabric; users: number }>();

function refuseMixed(name: string): never {
  throw new ArgumentError(`fabric ${name} cannot have functions with inline=1 and functions without`, {
    hint: 'open all of them inline, or none',
    fields: { fabric: name },
  });
}

/** A place for a function that gets an engine thread. @throws ArgumentError */
export function reservePlace(name: string, config: FunctionConfig): Place {
  if (inline.has(name)) refuseMixed(name);
  let hub = hubs.get(name);
  if (!hub) {
    hub = new Hub(name);
    hubs.set(name, hub);
  }
  return hub.reserve(config);
}

/** The fabric of functions on this very thread; each user gives it back. @throws ArgumentError */
export function inlineFabric(name: string): Fabric {
  if (hubs.has(name)) refuseMixed(name);
  let entry = inline.get(name);
  if (!entry) {
    entry = { fabric: new Fabric(), users: 0 };
    inline.set(name, entry);
  }
  entry.users++;
  return entry.fabric;
}

export function releaseInlineFabric(name: string): void {
  const entry = inline.get(name);
  if (entry && --entry.users === 0) inline.delete(name);
}

import { Access, type AddressSpace } from '../memory/address-space.js';
import { ErrorStep, SubStep } from '../spec/index.js';
import { Table } from './cache.js';
import type { FunctionContext } from './context.js';
import type { Core } from './core.js';
import { admits, type Peer } from './fabric.js';
import { hasReserved, RESERVED } from './reserved.js';

const VALID = 1;
const INTERRUPT_VALID = 2;
const PASID_VALID = 4;

/** Dwords of an AKEY_ENT or RKEY_ENT. */
const ENTRY_WORDS = 4;

/**
 * The entries that are looked at, as they were when they were read: each is read once, so that nobody changes it between two
 * checks. Not kept: the next lookup overwrites them.
 */
const akeyEntry = new Uint32Array(ENTRY_WORDS);
const rkeyEntry = new Uint32Array(ENTRY_WORDS);

type Entry = typeof akeyEntry;

const low = (entry: Entry): number => entry[0];
const pasid = (entry: Entry): number => entry[1] & 0xfffff;
const rkey = (entry: Entry): number => entry[3] & 0xffff;

/** intr_num of the first dword of an AKEY_ENT or RKEY_ENT. */
function vectorOf(low: number): number {
  return (low >>> 4) & 0x7ff;
}

/** tgt_sfunc of an AKEY_ENT, req_sfunc of an RKEY_ENT. */
function sfuncOf(low: number): number {
  return low >>> 16;
}

function read(entry: Entry, u32: Uint32Array, word: number, whole = true): void {
  const first = u32[word];
  entry[0] = first;
  // Nothing but vl is the context's default translation (ref §4.7), which most keys are: only options look at the rest then.
  if (first === VALID && !whole) return;
  entry[1] = u32[word + 1];
  entry[2] = u32[word + 2];
  entry[3] = u32[word + 3];
}

/**
 * Finds the AKey entry that an operand names and checks it by ref §7.1 item 1; without a cache it is read anew at each use
 * (ref §4.11).
 * @returns false after {@link Core.fail}
 */
function findAkey(core: Core, context: FunctionContext, akey: number, operand: number): boolean {
  if (akey >= context.akeyCount) {
    core.fail(ErrorStep.DSC_AKEY, SubStep.DVF, operand);
    return false;
  }
  const { copies } = core;
  const copy = copies?.find(Table.AKEY, context.number, akey);
  if (copy !== undefined) {
    read(akeyEntry, copy, 0);
  } else {
    const address = context.akeyTable + akey * 16;
    let map = context.akeyMap;
    if (!map.covers(address, 16, Access.READ)) {
      const space = core.memory.of(context.tablePasid);
      const found = space?.find(address, 16, Access.READ);
      if (!found) {
        core.failAccess(ErrorStep.DSC_AKEY, space, address, 16, operand);
        return false;
      }
      map = found;
      context.akeyMap = map;
    }
    read(akeyEntry, map.u32, map.word(address), copies !== undefined || core.strict);
    if (copies !== undefined && (low(akeyEntry) & VALID) !== 0) copies.keep(Table.AKEY, context.number, akey, akeyEntry, 0, ENTRY_WORDS);
  }
  if ((low(akeyEntry) & VALID) === 0 || (core.strict && hasReserved(akeyEntry, 0, RESERVED.AKEY_ENT))) {
    core.fail(ErrorStep.DSC_AKEY, SubStep.DVF, operand);
    return false;
  }
  return true;
}

/** Reads the RKey entry that the AKey names from the table of its target. @returns false after {@link Core.fail} */
function findRkey(core: Core, peer: Peer, operand: number): boolean {
  const index = rkey(akeyEntry);
  const { copies } = peer;
  const copy = copies?.find(Table.RKEY, 0, index);
  if (copy !== undefined) {
    read(rkeyEntry, copy, 0);
    return true;
  }
  const address = peer.rkeyTable + index * 16;
  const space = peer.memory.of(peer.functionPasid);
  const map = space?.find(address, 16, Access.READ);
  if (!map) {
    core.failAccess(ErrorStep.FN_RKEY, space, address, 16, operand);
    return false;
  }
  read(rkeyEntry, map.u32, map.word(address));
  if (copies !== undefined && (low(rkeyEntry) & VALID) !== 0) copies.keep(Table.RKEY, 0, index, rkeyEntry, 0, ENTRY_WORDS);
  return true;
}

/**
 * The consent of another function of the group, or of this one under its own handle (S-38), to what the AKey at hand asks for:
 * ref §7.1 item 3, each check at its step. Leaves the RKey entry in `rkeyEntry`.
 * @returns undefined after {@link Core.fail}
 */
function findConsent(core: Core, operand: number): Peer | undefined {
  const asked = low(akeyEntry);
  const peer = core.config.rkeyCap ? core.fabric.find(core.peer, sfuncOf(asked)) : undefined;
  const reachable = peer !== undefined && admits(peer) && peer.rkeysUsable && rkey(akeyEntry) < peer.rkeyCount;
  if (reachable) {
    if (!findRkey(core, peer, operand)) return undefined;
    const granted = low(rkeyEntry);
    const strictly = core.strict && hasReserved(rkeyEntry, 0, RESERVED.RKEY_ENT);
    const consents = (granted & VALID) !== 0 && sfuncOf(granted) === core.config.sfunc && !strictly;
    // Both sides name the same space, or none (S-29).
    const bothOrNone = ((granted ^ asked) & PASID_VALID) === 0;
    if (consents && bothOrNone && ((granted & PASID_VALID) === 0 || pasid(rkeyEntry) === pasid(akeyEntry))) return peer;
  }
  core.fail(ErrorStep.FN_RKEY, SubStep.DVF, operand);
  return undefined;
}

/**
 * The address space that an operand's AKey names. Ref §7.1 items 1–3.
 * @param operand 0 = source or target, 1 = destination or return data: sets `context.source` or `context.destination`, and the
 * peer whose space that is, when it is reached by a remote key
 * @returns false after {@link Core.fail}
 */
export function resolveSpace(core: Core, context: FunctionContext, akey: number, operand: number): boolean {
  if (!findAkey(core, context, akey, operand)) return false;
  const asked = low(akeyEntry);
  let space: AddressSpace | undefined;
  let peer: Peer | undefined;
  if (sfuncOf(asked) === 0) {
    space = core.memory.of((asked & PASID_VALID) !== 0 ? pasid(akeyEntry) : context.dataPasid);
  } else {
    peer = findConsent(core, operand);
    if (peer === undefined) return false;
    space = peer.memory.of((low(rkeyEntry) & PASID_VALID) !== 0 ? pasid(rkeyEntry) : -1);
  }
  if (operand === 0) {
    context.source = space;
    context.sourcePeer = peer;
    if (peer !== undefined) context.sourceEpoch = peer.epoch;
  } else {
    context.destination = space;
    context.destinationPeer = peer;
    if (peer !== undefined) context.destinationEpoch = peer.epoch;
  }
  return true;
}

/** Which operand's target function may have taken its consent back since the lookup, or -1: looked at before each slice (S-99). */
export function revokedPeer({ sourcePeer, sourceEpoch, destinationPeer, destinationEpoch }: FunctionContext): number {
  if (sourcePeer !== undefined && (!admits(sourcePeer) || sourcePeer.epoch !== sourceEpoch)) return 0;
  return destinationPeer !== undefined && (!admits(destinationPeer) || destinationPeer.epoch !== destinationEpoch) ? 1 : -1;
}

/**
 * Raises the interrupt that an INTR's AKey names: a vector of this function, or the one that the RKEY_ENT of another grants.
 * Ref §7.2, O-17, S-94. For a remote one iv and intr_num of the AKey mean nothing (S-111).
 * @returns false after {@link Core.fail}
 */
export function raiseByKey(core: Core, context: FunctionContext, akey: number): boolean {
  if (!findAkey(core, context, akey, 0)) return false;
  const remote = sfuncOf(low(akeyEntry)) !== 0;
  const peer = remote ? findConsent(core, 0) : core.peer;
  if (peer === undefined) return false;
  const granted = low(remote ? rkeyEntry : akeyEntry);
  const vector = vectorOf(granted);
  if ((granted & INTERRUPT_VALID) === 0 || vector >= peer.interrupts.vectors) {
    core.fail(remote ? ErrorStep.FN_RKEY : ErrorStep.DSC_AKEY, SubStep.DVF, 0);
    return false;
  }
  peer.interrupts.raise(vector);
  return true;
}

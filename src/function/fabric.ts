import { ArgumentError } from '../errors.js';
import type { AddressSpaces } from '../memory/address-space.js';
import { FunctionState } from '../spec/index.js';
import type { EntryCache } from './cache.js';
import type { FabricPort, InterruptPort } from './ports.js';

/**
 * A function as others of its group see it: what a remote access needs of its target (ref §7.1 item 3). Every value is read anew
 * at each use, for it changes while the target runs.
 */
export interface Peer {
  /** CAP0.sfunc. */
  readonly sfunc: number;
  /** CTL0.fn_grp_id as it is now. */
  readonly groupId: number;
  readonly state: FunctionState;
  /**
   * Changes whenever consent that was given may have been taken back: the function stopped, was reset or left, its group or RKEY
   * changed, or it was told of changed RKeys. An operation under way compares it before each slice (S-99, S-112).
   */
  readonly epoch: number;
  /** CAP1.rkey_cap and RKEY.en: others may use its RKey table. */
  readonly rkeysUsable: boolean;
  /** Address of the RKey table in the function's own space, and how many entries count (S-98). */
  readonly rkeyTable: number;
  readonly rkeyCount: number;
  /** PASID of the RKey table: fn_pasid. */
  readonly functionPasid: number;
  /** GRP_ENUM.probe. */
  readonly probing: boolean;
  readonly memory: AddressSpaces;
  /** Where it keeps copies of its RKey entries, unless `cache=none`. */
  readonly copies: EntryCache | undefined;
  readonly interrupts: InterruptPort;
}

/** S-98: two functions of a group cannot have one handle. */
export function handleTaken(groupId: number, sfunc: number): ArgumentError {
  return new ArgumentError(`group ${groupId} has a function with the handle ${sfunc} already`, {
    hint: 'give each function of a group an sfunc of its own: embedded:?fabric=a&groupId=7&sfunc=2',
    fields: { sfunc, groupId },
  });
}

/**
 * What connects functions of one thread: those of one group (equal fn_grp_id, not 0) find each other by their handles.
 * Membership of a group is decided by CTL0 at each lookup, not by who joined here.
 */
export class Fabric implements FabricPort {
  private readonly members: Peer[] = [];

  /** @throws ArgumentError when its group has a function with this handle already (S-98) */
  join(peer: Peer): void {
    if (peer.groupId !== 0 && this.members.some(({ sfunc, groupId }) => sfunc === peer.sfunc && groupId === peer.groupId)) {
      throw handleTaken(peer.groupId, peer.sfunc);
    }
    this.members.push(peer);
  }

  leave(peer: Peer): void {
    const at = this.members.indexOf(peer);
    if (at >= 0) this.members.splice(at, 1);
  }

  /**
   * Who answers to a handle when `requester` asks; itself under its own (S-38). Without a group nobody else does (S-97), and
   * nobody at all when two functions claim the handle (S-98).
   */
  find(requester: Peer, sfunc: number): Peer | undefined {
    const { groupId } = requester;
    if (groupId === 0) return sfunc === requester.sfunc ? requester : undefined;
    let found: Peer | undefined;
    for (const member of this.members) {
      if (member.sfunc !== sfunc || member.groupId !== groupId) continue;
      if (found !== undefined) return undefined;
      found = member;
    }
    return found;
  }

  /** Every lookup and every slice reads the peer itself, and none is under way while another function of the thread runs. */
  revoked(): void {}

  /** GRP_ENUM.busy of a function: another one of its group probes (S-4). */
  probedFor(self: Peer): boolean {
    const { groupId } = self;
    return groupId !== 0 && this.members.some((member) => member !== self && member.groupId === groupId && member.probing);
  }
}

/** True while remote accesses to the function are let through (ref §7.1 item 3.1, S-99). */
export function admits(peer: Peer): boolean {
  return peer.state === FunctionState.ACTIVE;
}

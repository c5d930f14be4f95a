import { EntryCache } from '../function/cache.js';
import type { Peer } from '../function/fabric.js';
import type { FabricPort, InterruptPort } from '../function/ports.js';
import type { AddressSpaces } from '../memory/address-space.js';
import { relax } from '../memory/spin.js';
import type { FunctionState } from '../spec/codes.js';
import type { Board, Notice } from './board.js';

/** How long a step of another engine may take when its end is waited for: some 30 µs, unless its thread is gone or does not get the processor. */
const STEP_MS = 500;

/** Another member as this engine reaches it, apart from what the board shows. */
export interface MemberEnd {
  readonly index: number;
  /** Its memory, mapped for this engine. */
  readonly memory: AddressSpaces;
  /** Its interrupts. */
  readonly interrupts: InterruptPort;
  /** It may keep copies of its RKey entries. */
  readonly caches: boolean;
  /** Its engine runs. */
  running(): boolean;
  /** Its engine does not do what it has to. */
  fail(reason: string): void;
  /** This engine begins a step: what the member has mapped and unmapped by now holds. */
  beginStep?(): void;
  /** This engine has ended a step. */
  endStep?(): void;
}

const emptyNotice = (): Notice => ({
  sfunc: 0,
  groupId: 0,
  state: 0,
  epoch: 0,
  rkeysUsable: false,
  rkeyTable: 0,
  rkeyCount: 0,
  functionPasid: -1,
  probing: false,
});

/**
 * A function of another engine thread: what it shows on the board, and its address spaces, of which this engine has mappings of
 * its own. All but state and epoch are of the moment of the last {@link look}.
 */
class RemotePeer implements Peer {
  readonly end: MemberEnd;
  readonly copies: EntryCache | undefined;
  private readonly board: Board;
  private readonly index: number;
  private readonly notice = emptyNotice();

  constructor(board: Board, end: MemberEnd) {
    this.board = board;
    this.end = end;
    this.index = end.index;
    // An RKEY_UPD of the member shows in its epoch, and nothing else is known of it here.
    this.copies = end.caches ? new EntryCache('sticky') : undefined;
  }

  look(): this {
    const { epoch } = this.notice;
    this.board.read(this.index, this.notice);
    if (this.notice.epoch !== epoch) this.copies?.clear();
    return this;
  }

  get state(): FunctionState {
    return this.board.state(this.index);
  }

  get epoch(): number {
    return this.board.epoch(this.index);
  }

  get sfunc(): number {
    return this.notice.sfunc;
  }

  get groupId(): number {
    return this.notice.groupId;
  }

  get rkeysUsable(): boolean {
    return this.notice.rkeysUsable;
  }

  get rkeyTable(): number {
    return this.notice.rkeyTable;
  }

  get rkeyCount(): number {
    return this.notice.rkeyCount;
  }

  get functionPasid(): number {
    return this.notice.functionPasid;
  }

  get probing(): boolean {
    return this.notice.probing;
  }

  get memory(): AddressSpaces {
    return this.end.memory;
  }

  get interrupts(): InterruptPort {
    return this.end.interrupts;
  }
}

/**
 * A fabric whose members run on threads of their own. Each engine moves bytes in any member's memory itself; what keeps them
 * apart is one rule: **within a step** ({@link begin} … {@link end}) an engine may act on what it has read on the board, and
 * whoever takes something back ({@link revoked}) first shows it there, then waits until every other engine has left the step that
 * it was in. An engine that waits counts as outside, so two may wait for each other.
 */
export class ThreadFabric implements FabricPort {
  private readonly board: Board;
  private readonly index: number;
  private readonly peers = new Map<number, RemotePeer>();
  private self!: Peer;
  private readonly shown = emptyNotice();
  private inStep = false;

  constructor(board: Board, index: number) {
    this.board = board;
    this.index = index;
  }

  // ---- What the function asks (FabricPort)

  join(peer: Peer): void {
    this.self = peer;
  }

  leave(): void {
    this.peers.clear();
  }

  /** As `Fabric.find`: S-38, S-97, S-98. */
  find(requester: Peer, sfunc: number): Peer | undefined {
    const { groupId } = requester;
    let found = sfunc === requester.sfunc ? requester : undefined;
    if (groupId === 0) return found;
    for (const peer of this.peers.values()) {
      if (peer.look().sfunc !== sfunc || peer.groupId !== groupId) continue;
      if (found !== undefined) return undefined;
      found = peer;
    }
    return found;
  }

  /** As `Fabric.probedFor`: S-4. */
  probedFor({ groupId }: Peer): boolean {
    if (groupId === 0) return false;
    for (const peer of this.peers.values()) if (peer.look().probing && peer.groupId === groupId) return true;
    return false;
  }

  /** @see FabricPort.revoked */
  revoked(): void {
    this.publish();
    this.quiesce();
  }

  /** Returns when every other engine has left the step that it was in. */
  quiesce(): void {
    const again = this.inStep;
    if (again) this.end();
    for (const [index, peer] of this.peers) this.awaitStep(index, peer);
    if (again) this.begin();
  }

  // ---- What the engine's loop does

  begin(): void {
    this.inStep = true;
    this.board.turnStep(this.index);
    // After that: whoever unmaps something says so first, and looks at the step afterwards.
    for (const { end } of this.peers.values()) end.beginStep?.();
  }

  end(): void {
    for (const { end } of this.peers.values()) end.endStep?.();
    this.board.turnStep(this.index);
    this.inStep = false;
  }

  /** Shows what has changed; before an answer that lets software believe in it. */
  publish(): void {
    const { shown, self } = this;
    const { state, epoch, groupId, rkeysUsable, rkeyTable, rkeyCount, functionPasid, probing } = self;
    if (
      shown.state === state &&
      shown.epoch === epoch &&
      shown.groupId === groupId &&
      shown.rkeysUsable === rkeysUsable &&
      shown.rkeyTable === rkeyTable &&
      shown.rkeyCount === rkeyCount &&
      shown.functionPasid === functionPasid &&
      shown.probing === probing
    )
      return;
    Object.assign(shown, { sfunc: self.sfunc, state, epoch, groupId, rkeysUsable, rkeyTable, rkeyCount, functionPasid, probing });
    this.board.publish(this.index, shown);
  }

  meet(end: MemberEnd): void {
    this.peers.set(end.index, new RemotePeer(this.board, end));
  }

  part(index: number): void {
    this.peers.delete(index);
  }

  private awaitStep(index: number, { end }: RemotePeer): void {
    const { board } = this;
    const step = board.step(index);
    if ((step & 1) === 0) return;
    for (let look = 0; look < 1000; look++) {
      if (board.step(index) !== step) return;
      relax();
    }
    const deadline = performance.now() + STEP_MS;
    while (board.step(index) === step && end.running()) {
      // Nobody notifies: whoever ends a step has better things to do.
      Atomics.wait(board.words, board.stepWord(index), step, 0.05);
      if (performance.now() >= deadline)
        end.fail(`it did not end a step within ${STEP_MS} ms while another function of its fabric took consent back`);
    }
  }
}

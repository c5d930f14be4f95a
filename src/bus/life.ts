/** Life of the other side of a bus, as every thread sees it. It only goes up. */
export const Life = { STARTING: 0, RUNNING: 1, LOST: 2, CLOSED: 3 } as const;
export type Life = (typeof Life)[keyof typeof Life];

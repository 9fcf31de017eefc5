// What the tests see of kubernetes-tools.mjs.

/** Paths of the two programs, whether they are there or not. */
export const HELM: string;
export const KUBECTL: string;

// The kinds of image that a service may send, the surest last. What is shown always says which kind it is.

export const KINDS = {
  live: { name: "live estimate", tone: "busy", sure: "one start on what is measured so far: how sure it is is not known" },
  preview: { name: "preview", tone: "busy", sure: "a network's guess, polished on what is measured so far" },
  refined: { name: "refined", tone: "ok", sure: "" },
  dynamical: { name: "dynamical", tone: "ok", sure: "" },
};

export const kindOf = (estimate) => KINDS[estimate?.fields.kind] ?? { name: String(estimate?.fields.kind ?? ""), tone: "busy", sure: "" };

/** Whether it is a result, and no hint of one. */
export const isResult = (estimate) => ["refined", "dynamical"].includes(estimate?.fields.kind);

// Of a pixel that was not fitted, of amplitudes: noise alone comes to a quarter at most, crystals that are found to
// 0.1 to 0.25, and another crystal than the true one came to 3 (docs/dynamical.md). Twice the noise is still good.
const GOOD_FREE_MISFIT = 0.5;

/** Whether it may be shown without being asked for: the dynamical one where it foretells pixels that it never saw. */
export function isTrusted(estimate) {
  const { kind, free_misfit: misfit } = estimate.fields;
  return kind !== "dynamical" || (typeof misfit === "number" && misfit <= GOOD_FREE_MISFIT);
}

/** The place of a kind: of the frames so far there is one estimate, by the network or without it. */
export const placeOf = (kind) => (kind === "preview" ? "live" : kind);

// Numbers as people read them.

const MINUS = "−";

export function fixed(value, digits) {
  const text = value.toFixed(digits);
  return text.replace("-", Number(text) === 0 ? "" : MINUS);
}

/** A number with about `digits` significant digits, without exponent where that is readable. */
export function significant(value, digits = 3) {
  if (value === 0) return "0";
  const size = Math.floor(Math.log10(Math.abs(value)));
  if (size > 5 || size < -4) return value.toExponential(digits - 1).replace("e-", `e${MINUS}`).replace(/^-/, MINUS);
  return fixed(value, Math.max(0, digits - 1 - size));
}

export function whole(count) {
  return count.toLocaleString("en").replaceAll(",", "\u202f");
}

export function length(metres) {
  for (const [unit, size] of [["mm", 1e-3], ["µm", 1e-6], ["nm", 1e-9]]) {
    if (metres >= size * 0.9999) return `${Number((metres / size).toPrecision(4))} ${unit}`;
  }
  return `${Number((metres / 1e-12).toPrecision(4))} pm`;
}

export function latency(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  return seconds < 1 ? `${significant(seconds * 1e3, 2)} ms` : `${significant(seconds, 2)} s`;
}

/** A number from 0 to about 1; null where there is none. */
export function share(value) {
  return value === null || value === undefined ? null : fixed(value, 3);
}

export function duration(exact) {
  const seconds = Math.max(1, Math.round(exact));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${seconds % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export function angle(radians) {
  const quarters = radians / (Math.PI / 2);
  const names = { "-2": `${MINUS}π`, "-1": `${MINUS}π/2`, 0: "0", 1: "π/2", 2: "π" };
  const nearest = Math.round(quarters);
  return Math.abs(quarters - nearest) < 1e-6 && nearest in names ? names[nearest] : fixed(radians, 2);
}

export function clock(date) {
  return date.toLocaleTimeString("en-GB");
}

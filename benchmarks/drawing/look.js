// What a reader meets in a figure on a page in the dark: texts that cover each other, the smallest text, the least
// contrast. Evaluated in the page by benchmarks/drawing_libraries.py, which gives the colour of the background.
([background]) => {
  const luminance = (colour) => {
    const [red, green, blue] = colour.map((part) => part / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const texts = [...document.querySelectorAll("main text, main th, main td")].filter(
    // Headings for screen readers are clipped to a pixel, and a reader sees nothing of them.
    (text) => text.textContent.trim() && !text.querySelector("svg") && text.getBoundingClientRect().width > 1,
  );
  const boxes = texts.map((text) => {
    const range = document.createRange();
    range.selectNodeContents(text);
    return range.getBoundingClientRect();
  });
  const cover = (a, b) => a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
  let overlaps = 0;
  boxes.forEach((a, i) => boxes.slice(i + 1).forEach((b) => (overlaps += cover(a, b))));
  const sizes = texts.map((text) => {
    const size = parseFloat(getComputedStyle(text).fontSize);
    const matrix = text.getScreenCTM ? text.getScreenCTM() : { a: 1, b: 0 };
    return size * Math.hypot(matrix.a, matrix.b);
  });
  const contrasts = texts.map((text) => {
    const style = getComputedStyle(text);
    const colour = (text.getScreenCTM ? style.fill : style.color).match(/\d+(\.\d+)?/g) || [0, 0, 0];
    const [light, dark] = [luminance(colour.slice(0, 3).map(Number)), luminance(background)].sort((x, y) => y - x);
    return (light + 0.05) / (dark + 0.05);
  });
  return { overlaps, smallest: Math.min(...sizes), contrast: Math.min(...contrasts) };
};

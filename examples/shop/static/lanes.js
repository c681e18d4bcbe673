// Sends the same requests to both lanes, and shows what each session holds afterwards.

const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

class Lane {
  constructor(section) {
    this.path = section.dataset.path;
    this.steps = section.querySelector(".steps");
    this.verdict = section.querySelector(".verdict");
  }

  async send(what, path) {
    const step = document.createElement("li");
    step.textContent = what;
    this.steps.append(step);
    const answer = await fetch(this.path + path, { method: path ? "POST" : "GET", cache: "no-store" });
    if (!answer.ok) throw new Error(`${path} was answered ${answer.status}`);
    step.append(" ✓");
    return answer.json();
  }

  say(text, good) {
    this.verdict.textContent = text;
    this.verdict.dataset.good = good;
  }

  // One tab puts a mug into the cart while another puts a lamp into it.
  async two() {
    await this.send("Ada logs in", "log-in");
    await Promise.all([this.send("tab 1 puts in a mug", "put/mug"), this.send("tab 2 puts in a lamp", "put/lamp")]);
    const { articles } = await this.send("what is in the cart?", "");
    const lost = ["mug", "lamp"].filter((article) => !articles.includes(article));
    if (lost.length) this.say(`The ${lost.join(" and the ")} is lost: only the ${articles.join(", ")} is in the cart.`, false);
    else this.say("Both are in the cart.", true);
  }

  // A slow request is on its way when she logs out; its answer comes last.
  async late() {
    await this.send("Ada logs in", "log-in");
    const slow = this.send("a slow request begins", "put/mug");
    await pause(150);
    await this.send("Ada logs out", "log-out");
    await slow;
    const { user } = await this.send("who is logged in?", "");
    if (user) this.say("Ada is logged in again: the slow answer brought her session back.", false);
    else this.say("Ada stays logged out.", true);
  }

  async run(which) {
    this.steps.replaceChildren();
    this.say("…", "");
    try {
      await this[which]();
    } catch (error) {
      this.say(String(error), false);
    }
  }
}

const lanes = [...document.querySelectorAll(".lane")].map((section) => new Lane(section));
const buttons = [...document.querySelectorAll("[data-try]")];

for (const button of buttons) {
  button.addEventListener("click", async () => {
    buttons.forEach((each) => (each.disabled = true));
    await Promise.all(lanes.map((lane) => lane.run(button.dataset.try)));
    buttons.forEach((each) => (each.disabled = false));
  });
}
